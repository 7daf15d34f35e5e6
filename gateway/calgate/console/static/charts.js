// Draws the figures of a chart with uPlot, in place of the picture that the page has for browsers without scripts.
const plots = new Map();
const DAY = 86400;
const whole = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000];
const paths = { line: uPlot.paths.linear(), steps: uPlot.paths.stepped({ align: 1 }), none: () => null };

const color = (name) => () => getComputedStyle(document.body).getPropertyValue(name);
const upTo = (space) => (plot, least, most) => [0, Math.max(1, most ?? 1) * (1 + space)];

function axis(label, more) {
  const stroke = color("--soft"), grid = { stroke: color("--line"), width: 1 }, font = "12px system-ui, sans-serif";
  return { label, stroke, grid, font, labelFont: font, labelSize: 20, ticks: { show: false }, ...more };
}

// Values are in force from their time on, so each time has the latest one; null before the first.
function inForce(times, known) {
  let next = 0, value = null;
  return times.map((time) => {
    while (next < known.length && known[next][0] <= time) value = known[next++][1];
    return value;
  });
}

const startOf = (chart) => (hour) => chart.begin + hour * 3600;

function marksOf(chart) {
  const at = startOf(chart), counts = chart.marks?.values ?? [];
  return new Map(counts.flatMap((count, hour) => (count ? [[at(hour + 0.5), count]] : [])));
}

// Each hour, each change of a limit, and the middle of each hour with a mark.
function timesOf(chart, marks) {
  const at = startOf(chart);
  const hours = Math.max(...chart.series.map((one) => one.values.length), chart.marks?.values.length ?? 0);
  const changes = chart.series.flatMap((one) => one.limits.map(([time]) => time));
  const between = changes.filter((time) => time > chart.begin && time < at(hours));
  const times = new Set([...Array(hours + 1).keys()].map(at).concat(between, ...marks.keys()));
  return [...times].sort((a, b) => a - b);
}

function overTime(chart) {
  const marks = marksOf(chart), times = timesOf(chart, marks), at = startOf(chart);
  const minute = written(chart.zone, "minute");
  const data = [times], series = [{ label: "Time", value: (plot, time) => (time === null ? "--" : minute(time)) }];
  const ticks = (plot, splits, index, space, step) => splits.map(written(chart.zone, step < DAY ? "hour" : "day"));
  const axes = [axis(undefined, { size: 30, values: ticks }), axis("CALs in use", { incrs: whole, size: 44 })];
  const add = (label, values, known) => {
    data.push(values);
    series.push({ label, ...known });
  };
  chart.series.forEach((one, number) => {
    const line = { stroke: color(`--line-${number}`), width: 2, paths: paths.steps, points: { show: false } };
    add(one.label, inForce(times, one.values.map((value, hour) => [at(hour), value])), line);
    const limit = { ...line, width: 1.5, dash: [6, 4] };
    if (one.limits.length) add(`${one.label}, limit`, inForce(times, one.limits), limit);
  });
  if (chart.marks) {
    const stroke = color("--mark"), points = { show: true, size: 7, stroke, fill: stroke };
    const ofHour = (time) => chart.marks.values[Math.floor((time - chart.begin) / 3600)] ?? 0;
    const value = (plot, count, number, index) => (index === null ? "--" : ofHour(times[index]));
    const known = { stroke, scale: "marks", paths: paths.none, points, value };
    add(chart.marks.label, times.map((time) => marks.get(time) ?? null), known);
    axes.push(axis(chart.marks.label, { scale: "marks", side: 1, incrs: whole, size: 44, grid: { show: false } }));
  }
  const scales = { y: { range: upTo(0.05) }, marks: { range: upTo(0.3) } };
  return { data, series, axes, scales, tzDate: (time) => uPlot.tzDate(new Date(time * 1e3), chart.zone) };
}

function curve(chart) {
  const [across, up] = [chart.points.map(([x]) => x), chart.points.map(([, y]) => y)];
  const points = { show: true, size: 5, stroke: color("--line-0"), fill: color("--line-0") };
  const now = { show: true, size: 11, stroke: color("--mark"), fill: color("--card"), width: 2 };
  const series = [
    { label: chart.across },
    { label: chart.up, stroke: color("--line-0"), width: 2, paths: paths.line, points },
    { label: "As it is now", stroke: color("--mark"), paths: paths.none, points: now },
  ];
  const axes = [axis(chart.across, { incrs: whole, size: 30 }), axis(chart.up, { incrs: whole, size: 52 })];
  const data = [across, up, across.map((x, index) => (x === chart.now ? up[index] : null))];
  return { data, series, axes, scales: { x: { time: false }, y: { range: upTo(0.05) } } };
}

// As the pages write times: 2026-11-26 09:00 in the site's zone.
function written(zone, form) {
  const date = { day: "numeric", month: "short" }, clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  const [place, parts] = {
    minute: ["sv-SE", { year: "numeric", month: "2-digit", day: "2-digit", ...clock }],
    hour: ["en-GB", clock],
    day: ["en-GB", date],
  }[form];
  const format = new Intl.DateTimeFormat(place, { ...parts, timeZone: zone });
  const midnight = new Intl.DateTimeFormat("en-GB", { ...date, timeZone: zone });
  return (time) => {
    const text = format.format(time * 1e3);
    return form === "hour" && text === "00:00" ? midnight.format(time * 1e3) : text;
  };
}

function draw(box) {
  const chart = JSON.parse(box.dataset.plot);
  const { data, ...options } = chart.kind === "time" ? overTime(chart) : curve(chart);
  plots.get(box)?.destroy();
  box.closest("section").classList.add("plotted");
  const plot = new uPlot({ ...options, ...sizeOf(box), cursor: { drag: { x: true, y: false }, y: false } }, data, box);
  const canvas = plot.root.querySelector("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", box.dataset.title);
  plots.set(box, plot);
}
const sizeOf = (box) => ({ width: box.clientWidth, height: box.clientWidth < 480 ? 240 : 300 });

htmx.onLoad((loaded) => {
  for (const box of plots.keys()) if (!box.isConnected) plots.delete(box);
  for (const box of loaded.querySelectorAll("[data-plot]")) {
    draw(box);
    new ResizeObserver(() => box.clientWidth && plots.get(box).setSize(sizeOf(box))).observe(box);
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => [...plots.keys()].forEach(draw));
