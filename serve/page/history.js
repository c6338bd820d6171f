// One's own votes, newest first. A vote that is changed stays where it is until the page is read again.

import { Ballot } from "./ballot.js";
import { make, moment, thumb } from "./element.js";

export class History {
  #votes;
  #list;
  #summaries = new Map();

  constructor(votes, list, note) {
    this.#votes = votes;
    this.#list = list;
    votes.addEventListener("vote", ({ detail }) => {
      note.textContent = "Each can be changed: the last one counts.";
      if (!this.#summaries.has(detail.completion_id)) this.#add(detail);
      this.#summaries.get(detail.completion_id).replaceChildren(...summary(detail));
    });
  }

  #add(vote) {
    const head = make("summary");
    const ballot = new Ballot(this.#votes, vote, `the answer: ${opening(vote.text)}`);
    const body = make("div", {}, make("p", { class: "asked" }, vote.prompt.trim()), said(vote.text), ballot.element);
    this.#summaries.set(vote.completion_id, head);
    this.#list.prepend(make("li", {}, make("details", {}, head, body)));
  }
}

// What a model said, or that it said nothing.
export function said(text) {
  const spoken = text.trim();
  return spoken ? make("p", { class: "said" }, spoken) : make("p", { class: "said empty" }, "The answer is empty.");
}

function summary({ label, text, time }) {
  const word = make("span", { class: "unseen" }, label > 0 ? "Good: " : "Bad: ");
  const about = make("span", { class: "about" }, word, opening(text));
  return [thumb(label), about, make("span", { class: "when" }, moment(time))];
}

function opening(text) {
  return text.trim().split("\n", 1)[0].slice(0, 120) || "an empty answer";
}
