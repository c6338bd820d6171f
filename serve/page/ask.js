// The page at /: a question, its answers, and the votes on them.

import { Ballot } from "./ballot.js";
import { make } from "./element.js";
import { EXAMPLES } from "./examples.js";
import { History, said } from "./history.js";
import { post } from "./server.js";
import { listen } from "./shortcuts.js";
import { Votes } from "./votes.js";

const KEYS = [["1", "2"], ["3", "4"]];
const at = (id) => document.getElementById(id);
const [form, button, incident, evidence, answers] = ["question", "ask", "incident", "evidence", "answers"].map(at);
const votes = new Votes();
let ballots = [];
let isAsking = false;

async function ask() {
  if (isAsking) return;
  const begun = document.activeElement;
  const question = { incident: incident.value, evidence: evidence.value, side_by_side: at("two").checked };
  waitFor(question.side_by_side ? 2 : 1);
  try {
    show(await post("/page/answers", question));
    if (document.activeElement === begun) at("answers-title").focus();
  } catch (refusal) {
    at("answered").hidden = true;
    complain(refusal);
  } finally {
    setAsking(false);
  }
}

function waitFor(count) {
  setAsking(true);
  at("trouble").hidden = true;
  at("answered").hidden = false;
  at("answers-title").textContent = count > 1 ? "Two answers" : "Answer";
  at("asked").textContent = "";
  ballots = [];
  answers.replaceChildren(make("p", { class: "empty" }, "Writing …"));
}

function show({ prompt, answers: found }) {
  const isPair = found.length > 1;
  votes.compare(isPair ? found.map((answer) => answer.completion_id) : []);
  at("asked").textContent = prompt.trim();
  const titles = isPair ? ["Answer A", "Answer B"] : ["the answer"];
  ballots = found.map((answer, place) => new Ballot(votes, { ...answer, prompt }, titles[place], KEYS[place]));
  answers.replaceChildren(...found.map((answer, place) => article(answer, isPair && titles[place], ballots[place])));
}

function article({ text }, title, ballot) {
  const heading = title ? [make("h3", {}, title)] : [];
  return make("article", { class: "answer" }, make("div", {}, ...heading, said(text)), ballot.element);
}

function setAsking(is) {
  isAsking = is;
  button.setAttribute("aria-disabled", is);
  answers.setAttribute("aria-busy", is);
}

function complain(refusal) {
  at("trouble").textContent = refusal.message;
  at("trouble").hidden = false;
}

function offer(example) {
  const offered = make("button", { type: "button", class: "plain" }, example.name);
  offered.addEventListener("click", () => {
    incident.value = example.incident;
    evidence.value = example.evidence.join("\n");
    incident.focus();
  });
  at("examples").append(offered);
}

function goTo(heading) {
  heading.scrollIntoView({ block: "start" });
  heading.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
EXAMPLES.forEach(offer);
listen({
  n: () => { incident.focus(); incident.select(); },
  v: () => goTo(at("votes-title")),
  1: () => ballots[0]?.cast(1),
  2: () => ballots[0]?.cast(-1),
  3: () => ballots[1]?.cast(1),
  4: () => ballots[1]?.cast(-1),
}, at("single-keys"));

new History(votes, at("votes"), at("votes-note"));
votes.read().catch(complain);
