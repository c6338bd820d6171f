// A vote on one completion: two thumbs, a comment, and, once it may be told, the verdict.

import { make, thumb } from "./element.js";
import { verdict } from "./verdict.js";

const WORDS = { 1: "Good", "-1": "Bad" };
const BLIND = "Saved. Its model is named once both have a vote.";
let made = 0;

export class Ballot {
  #votes;
  #completion;
  #up;
  #down;
  #comment;
  #save = make("button", { type: "button", class: "plain" }, "Save the comment");
  #verdict = make("div", { class: "verdict" });
  #note = make("p", { class: "note", role: "status" });
  #saved = ""; // the comment that the server has
  #sending = Promise.resolve();

  // `title` names the completion for who cannot see where the ballot stands; `keys` are the two shortcuts, if any.
  constructor(votes, completion, title, keys = []) {
    this.#votes = votes;
    this.#completion = completion;
    this.#up = this.#button(1, title, keys[0]);
    this.#down = this.#button(-1, title, keys[1]);
    this.element = make("div", { class: "ballot" },
      make("div", { class: "thumbs", role: "group", "aria-label": `Vote on ${title}` }, this.#up, this.#down),
      this.#commentField(title), this.#verdict, this.#note);
    votes.addEventListener("vote", () => this.#show());
    this.#show();
  }

  // Votes follow each other: of two quick ones the last is the one that counts.
  cast(label) {
    this.#sending = this.#sending.then(() => this.#send(label));
  }

  get #vote() {
    return this.#votes.of(this.#completion.completion_id);
  }

  get #isTold() {
    return this.#votes.isTold(this.#completion.completion_id);
  }

  async #send(label) {
    this.#tell("Saving …");
    try {
      await this.#votes.cast(this.#completion, label, this.#comment.value);
      this.#tell(this.#isTold ? "Saved." : BLIND);
    } catch (refusal) {
      this.#tell(refusal.message, true);
    }
  }

  #show() {
    const vote = this.#vote;
    this.#up.setAttribute("aria-pressed", vote?.label === 1);
    this.#down.setAttribute("aria-pressed", vote?.label === -1);
    const written = this.#comment.value !== this.#saved;
    this.#saved = vote?.comment ?? "";
    if (!written) this.#comment.value = this.#saved;
    this.#offerSaving();
    this.#verdict.hidden = !this.#isTold;
    this.#verdict.replaceChildren(...(this.#isTold ? verdict(vote) : []));
    if (this.#isTold && this.#note.textContent === BLIND) this.#tell("");
  }

  #tell(words, isTrouble = false) {
    this.#note.classList.toggle("trouble", isTrouble);
    this.#note.textContent = words;
  }

  #offerSaving() {
    this.#save.hidden = !this.#vote || this.#comment.value.trim() === this.#saved;
  }

  #saveComment() {
    if (this.#vote) this.cast(this.#vote.label);
    else this.#tell("A comment goes with a vote: choose Good or Bad.");
  }

  #button(label, title, key) {
    const word = make("span", {}, WORDS[label], make("span", { class: "unseen" }, `, ${title}`));
    const button = make("button", { type: "button" }, thumb(label), word);
    if (key) {
      button.setAttribute("aria-keyshortcuts", key);
      button.append(make("kbd", { "aria-hidden": "true" }, key));
    }
    button.addEventListener("click", () => this.cast(label));
    return button;
  }

  #commentField(title) {
    const id = `comment-${(made += 1)}`;
    const label = make("label", { for: id }, "Comment",
      make("span", { class: "unseen" }, ` on ${title}`), make("span", { class: "hint" }, " optional"));
    this.#comment = make("textarea", { id, rows: 1 });
    this.#comment.addEventListener("input", () => this.#offerSaving());
    this.#comment.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#saveComment();
    });
    this.#save.addEventListener("click", () => this.#saveComment());
    return make("div", { class: "comment" }, label, this.#comment, this.#save);
  }
}
