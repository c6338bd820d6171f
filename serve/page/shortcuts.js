// Keys that work wherever nobody is writing. Single keys can be switched off: a voice or a slip can press them unmeant.

const STORED = "single-keys";

export function listen(keys, box) {
  box.checked = localStorage.getItem(STORED) !== "off";
  box.addEventListener("change", () => localStorage.setItem(STORED, box.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isWriting(event.target)) event.target.blur();
    const isSingle = !event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat;
    if (!isSingle || !box.checked || isWriting(event.target) || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
}

function isWriting(element) {
  return element.matches("textarea, input:not([type='radio'], [type='checkbox'])");
}
