// What a page does by itself where scripts run; without them it stays as it is, and everything can still be done.
const content = document.getElementById("content");
const tabs = new BroadcastChannel("calgate-console");
let failures = 0;

// The tab where somebody signs out tells the others, which must not go on showing who holds what.
function close() {
  content.removeAttribute("data-live");
  content.replaceChildren(document.getElementById("closed").content.cloneNode(true));
}
tabs.addEventListener("message", close);
document.querySelector("header form").addEventListener("submit", () => tabs.postMessage("signed out"));

// A checkbox above the others selects all rows of a table.
function offerAll() {
  for (const all of content.querySelectorAll("input.all")) all.hidden = false;
}
content.addEventListener("change", (event) => {
  if (!event.target.matches("input.all")) return;
  for (const one of event.target.form.querySelectorAll("[name=row]")) one.checked = event.target.checked;
});
offerAll();

// A live screen fetches itself and replaces its content, unless somebody is at work in it.
async function refresh() {
  const busy = document.hidden || content.contains(document.activeElement) || content.querySelector(":checked, details[open]");
  if (!content.hasAttribute("data-live") || busy) return;
  try {
    const options = { headers: { Accept: "text/html", "X-Calgate-Live": "1" }, cache: "no-store", signal: AbortSignal.timeout(20e3) };
    const response = await fetch(location.href, options);
    if (response.status === 401 || response.status === 403) return close();
    if (!response.ok) throw new Error(response.status);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("content");
    const outcomes = content.querySelectorAll(":scope > [role=status]");
    content.replaceChildren(...fresh.childNodes);
    content.querySelector("h1").after(...outcomes);
    content.toggleAttribute("data-live", fresh.hasAttribute("data-live"));
    failures = 0;
    offerAll();
  } catch {
    failures += 1;
    document.getElementById("stale").hidden = failures < 3;
  }
}
async function keepFresh() {
  await refresh();
  setTimeout(keepFresh, 5000);
}
setTimeout(keepFresh, 5000);
