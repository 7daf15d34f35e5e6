// The WebSocket: counts while the session lives, and says why it ended.
const line = document.querySelector("footer").appendChild(document.createElement("p"));
line.id = "live";
const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
socket.onmessage = (event) => { line.textContent = `Live over a WebSocket: ${event.data}`; };
socket.onclose = (event) => { line.textContent = `The WebSocket is closed (${event.code}${event.reason ? `: ${event.reason}` : ""}).`; };
