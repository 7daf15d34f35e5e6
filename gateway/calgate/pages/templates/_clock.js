const page = document.documentElement.lang;
const sameLanguage = (name) => name.split("-")[0] === page.split("-")[0];
const reader = navigator.languages.find(sameLanguage) ?? page; // their region's way to write times
for (const time of document.querySelectorAll("time[datetime]")) {
  const moment = new Date(time.dateTime);
  const today = moment.toDateString() === new Date().toDateString();
  time.title = moment.toLocaleString(reader, { dateStyle: "full", timeStyle: "long" });
  time.textContent = today
    ? moment.toLocaleTimeString(reader, { timeStyle: "short" })
    : moment.toLocaleString(reader, { weekday: "long", day: "numeric", month: "long", hour: "numeric", minute: "2-digit" });
}
