// The server, asked in JSON. What it refuses is thrown in its own words.

const TIMEOUT_MS = 90_000;
const TRIES = 4;
const WAIT_MS = 400;
const AGAIN = [0, 408, 503]; // 0: no answer came

export class Refusal extends Error {
  constructor(words, status) {
    super(words);
    this.status = status;
  }
}

export function get(path, key = "") {
  return fetched(path, { headers: key ? { Authorization: `Bearer ${key}` } : {} });
}

export function post(path, body, more = {}) {
  const headers = { "Content-Type": "application/json", "X-Requested-With": "rlhf_ray", ...more };
  return fetched(path, { method: "POST", headers, body: JSON.stringify(body) });
}

// A vote counts once, however often it is sent: each try has the same key.
export async function postOnce(path, body) {
  const key = { "Idempotency-Key": randomKey() };
  for (let left = TRIES - 1; ; left -= 1) {
    try {
      return await post(path, body, key);
    } catch (refusal) {
      if (!left || !AGAIN.includes(refusal.status)) throw refusal;
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS * (TRIES - left) * (0.5 + Math.random())));
    }
  }
}

function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function fetched(path, request) {
  const bounded = { ...request, redirect: "error", signal: AbortSignal.timeout(TIMEOUT_MS) };
  const answer = await fetch(path, bounded).catch(() => {
    throw new Refusal("The server cannot be reached.", 0);
  });
  const body = await answer.json().catch(() => null);
  if (answer.ok && body) return body;
  throw new Refusal(body?.error?.message ?? `The server answered ${answer.status} and no word.`, answer.status);
}
