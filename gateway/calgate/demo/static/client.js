// Speaks as QlikView's AJAX client does: posts <update>, reads <result>, shows <message>, and polls when nobody clicks.
const sheet = document.querySelector(".sheet");
const name = sheet.dataset.document;
const status = document.getElementById("status");
const message = document.getElementById("message");
const POLL_EVERY = 10000;
let mark = "";
let timer;

const attribute = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

async function call(commands, what) {
  clearTimeout(timer);
  const query = new URLSearchParams({ mark, host: "QVS@demo", view: name, platform: "browser.demo", dpi: "96" });
  const body = `<update mark="${mark}" stamp="" cookie="true" scope="Document" view="${attribute(name)}" ident="null">${commands}</update>`;
  try {
    const address = `/QvAJAXZfc/QvsViewClient.aspx?${String(query).replaceAll("+", "%20")}`;
    const answer = await fetch(address, { method: "POST", headers: { "Content-Type": "text/plain;charset=UTF-8" }, body });
    show(new DOMParser().parseFromString(await answer.text(), "text/xml").documentElement, what);
  } catch {
    status.textContent = "The server does not answer; asking again.";
  }
  timer = setTimeout(() => call('<poll name="CH01"/>', "Polled"), POLL_EVERY);
}

function show(result, what) {
  const told = result.querySelector("message");
  message.hidden = !told;
  if (told) {
    message.textContent = told.getAttribute("text");
    status.textContent = "The server said no, in the words above. Choose a value to ask for the document again.";
    return;
  }
  const before = mark;
  mark = result.getAttribute("mark") ?? mark;
  if (before && what === "Polled") {
    status.textContent = `Polled at ${new Date().toLocaleTimeString()}: that keeps nothing, and costs no CAL.`;
    return;
  }
  status.textContent = `${what} at ${new Date().toLocaleTimeString()}.`;
  paintLists(result.querySelectorAll("list"));
  paintChart(result.querySelector("chart"), result);
}

function paintLists(lists) {
  const focused = document.activeElement.closest("fieldset button")?.textContent;
  document.getElementById("lists").replaceChildren(...[...lists].map((list) => {
    const field = document.createElement("fieldset");
    const legend = field.appendChild(document.createElement("legend"));
    legend.textContent = list.getAttribute("name");
    for (const value of list.children) {
      const button = field.appendChild(document.createElement("button"));
      const text = value.getAttribute("text");
      button.textContent = text;
      button.setAttribute("aria-pressed", value.getAttribute("selected") === "1");
      button.onclick = () => call(`<set name="${attribute(legend.textContent)}" value="${attribute(text)}"/>`, `Selected ${text}`);
    }
    return field;
  }));
  [...document.querySelectorAll("fieldset button")].find((button) => button.textContent === focused)?.focus();
}

function paintChart(chart, result) {
  const bars = [...chart.children];
  const most = Math.max(...bars.map((bar) => Number(bar.getAttribute("value"))));
  const selected = result.querySelector("list").querySelector("[selected='1']");
  document.getElementById("caption").textContent = `In ${chart.getAttribute("unit")}`;
  document.getElementById("bars").replaceChildren(...bars.map((bar) => {
    const row = document.createElement("div");
    const text = bar.getAttribute("text");
    const dim = selected && selected.getAttribute("text") !== text;
    row.className = "bar";
    row.innerHTML = `<span></span><svg class="${dim ? "dim" : ""}" aria-hidden="true"><rect width="${100 * bar.getAttribute("value") / most}%" height="100%" rx="4"/></svg><output></output>`;
    row.querySelector("span").textContent = text;
    row.querySelector("output").textContent = Number(bar.getAttribute("value")).toLocaleString();
    return row;
  }));
}

call('<add name="Document.ActiveSheet"/>', "Opened");
