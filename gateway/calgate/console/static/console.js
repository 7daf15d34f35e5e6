// What htmx leaves to the page. Without scripts a page stays as it is, and everything can still be done.
const tabs = new BroadcastChannel("calgate-console");
const content = () => document.getElementById("content");
let failures = 0;

// The tab where somebody signs out tells the others, which must not go on showing who holds what.
function close() {
  const open = content(), closed = document.createElement("main");
  closed.id = "content";
  closed.append(document.getElementById("closed").content.cloneNode(true));
  htmx.trigger(open, "htmx:abort");
  open.replaceWith(closed);
}
tabs.addEventListener("message", close);
document.querySelector("header form").addEventListener("submit", () => tabs.postMessage("signed out"));

// A checkbox above the others selects all rows of a table.
htmx.onLoad((loaded) => loaded.querySelectorAll("input.all").forEach((all) => (all.hidden = false)));
document.addEventListener("change", ({ target }) => {
  if (!target.matches("input.all")) return;
  for (const one of target.form.querySelectorAll("[name=row]")) one.checked = target.checked;
});

// A refresh replaces the whole content, so it waits while somebody is at work in it.
function isChosen(list) {
  return list.selectedIndex !== Math.max(0, [...list.options].findIndex((option) => option.defaultSelected));
}
function isAtWork() {
  const main = content();
  return (
    main.contains(document.activeElement) ||
    main.querySelector("input:checked, details[open]") !== null ||
    [...main.querySelectorAll("input:not([type=checkbox])")].some((input) => input.value !== input.defaultValue) ||
    [...main.querySelectorAll("select")].some(isChosen)
  );
}
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden || isAtWork()) event.preventDefault();
});
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  if (!detail.serverResponse.includes('<main id="content"')) detail.isError = true;
  if (detail.isError || isAtWork()) detail.shouldSwap = false;
});
document.addEventListener("htmx:afterRequest", ({ detail }) => {
  if ([401, 403].includes(detail.xhr.status)) return close();
  failures = detail.successful ? 0 : failures + 1;
  const stale = document.getElementById("stale");
  if (stale) stale.hidden = failures < 3;
});
