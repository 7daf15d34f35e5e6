// A live screen fetches itself and replaces its content, unless somebody is at work in it. Without script it stays as it is.
setInterval(async () => {
  const content = document.getElementById("content");
  const busy = document.hidden || content.contains(document.activeElement) || content.querySelector(":checked, details[open]");
  if (!content.hasAttribute("data-live") || busy) return;
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("content");
    if (fresh) content.replaceChildren(...fresh.childNodes);
  } catch { /* the next round tries again */ }
}, 5000);
