for (const time of document.querySelectorAll("time[datetime]")) {
  const moment = new Date(time.dateTime);
  const today = moment.toDateString() === new Date().toDateString();
  const clock = { hour: "2-digit", minute: "2-digit" };
  time.title = moment.toLocaleString();
  time.textContent = today
    ? moment.toLocaleTimeString([], clock)
    : moment.toLocaleString([], { weekday: "short", day: "numeric", month: "short", ...clock });
}
