// The live votes of this person, and what may be told of them.

import { get, postOnce } from "./server.js";

export class Votes extends EventTarget {
  #live = new Map();
  #pair = [];

  of(id) {
    return this.#live.get(id);
  }

  // Two answers that stand side by side stay blind until both have a vote: one name would give away the other.
  compare(ids) {
    this.#pair = ids;
  }

  isTold(id) {
    const others = this.#pair.includes(id) ? this.#pair : [];
    return [id, ...others].every((each) => this.#live.has(each));
  }

  async read() {
    const { data } = await get("/v1/feedback?limit=50");
    for (const vote of [...data].reverse()) this.#take(vote);
  }

  async cast({ completion_id, prompt, text }, label, comment) {
    const words = comment.trim() ? { comment: comment.trim() } : {};
    const vote = await postOnce("/v1/feedback", { completion_id, label, ...words });
    this.#take({ ...vote, prompt, text });
  }

  #take(vote) {
    this.#live.set(vote.completion_id, vote);
    this.dispatchEvent(new CustomEvent("vote", { detail: vote }));
  }
}
