// Plots with a cursor, drawn by uPlot over the pictures that the server made: without it those stay.
"use strict";
(() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const fade = (colour, share) => `color-mix(in srgb, ${colour} ${share}%, transparent)`;
  const utc = (value) => uPlot.tzDate(new Date(value * 1000), "Etc/UTC");

  const dates = [
    [31536000, "{YYYY}", null, null, null, null, null, null, 1],
    [2592000, "{MMM}", null, null, null, null, null, null, 1],
    [86400, "{D} {MMM}", null, null, null, null, null, null, 1],
    [3600, "{HH}:{mm}", null, null, null, null, null, null, 1],
    [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
    [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
  ];

  // Between two marks of an axis of days, in seconds.
  const wholeDays = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 30, 60, 90, 120, 180, 365, 730].map((n) => n * 86400);

  function told(value, unit) {
    if (value === null || value === undefined) return "–";
    return `${value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 0 })}${unit ? ` ${unit}` : ""}`;
  }

  // Beside an axis there is room for a few letters.
  function shortly(value) {
    return Math.abs(value) < 1e6 ? told(value, "") : value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 2 });
  }

  // Heights of a stack, bottom first; uPlot draws the tallest first, so series come in reverse.
  function stacked(values) {
    const below = new Array(values[0].length).fill(0);
    return values.map((column) => column.map((value, k) => { below[k] += value ?? 0; return below[k]; }));
  }

  function draw(host) {
    const plot = JSON.parse(host.dataset.plot);
    if (!plot.x.length || !plot.series.length) return;
    const raw = plot.series.map((each) => each.values);
    const isStack = plot.kind === "stack";
    const heights = isStack ? stacked(raw) : raw;
    const order = plot.series.map((_, k) => k);
    if (isStack) order.reverse();
    const series = [{ label: "UTC", value: plot.moment ?? "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" }];
    for (const k of order) {
      const colour = css(plot.series[k].colour);
      series.push({
        label: plot.series[k].label, stroke: colour, width: isStack ? 1 : 1.8, points: { show: plot.x.length < 3 },
        fill: isStack ? colour : plot.series.length === 1 ? fade(colour, 16) : undefined,
        paths: plot.bars && isStack ? uPlot.paths.bars({ size: [0.86, 64] }) : undefined,
        value: (_, __, ___, index) => (index === null ? "–" : told(raw[k][index], plot.unit)),
      });
    }
    // Half a bar stands beside the first and the last place.
    const beside = plot.bars ? (plot.x.length > 1 ? (plot.x.at(-1) - plot.x[0]) / (plot.x.length - 1) : 86400) / 2 : 0;
    const ink = css("ink3"), grid = { stroke: css("line2"), width: 1 };
    const hooks = { draw: [] };
    if (plot.limit) {
      hooks.draw.push((u) => {
        const y = u.valToPos(plot.limit, "y", true);
        u.ctx.save();
        u.ctx.strokeStyle = css("failed");
        u.ctx.setLineDash([6, 5]);
        u.ctx.beginPath();
        u.ctx.moveTo(u.bbox.left, y);
        u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
        u.ctx.stroke();
        u.ctx.restore();
      });
    }
    const box = document.createElement("div");
    box.className = "drawn";
    const size = () => ({ width: Math.max(200, host.clientWidth), height: plot.height || 240 });
    const u = new uPlot({
      ...size(), tzDate: utc, series, hooks, padding: [8, 26, 0, 0],
      cursor: plot.sync ? { sync: { key: plot.sync } } : {},
      scales: { x: { time: true, range: (_, low, high) => [low - beside, high + beside] }, y: { range: (_, __, top) => [0, Math.max(plot.limit || 0, top || 1) * 1.06] } },
      axes: [
        { stroke: ink, grid: { show: false }, ticks: grid, values: dates, incrs: plot.bars ? wholeDays : undefined, font: "11px system-ui", size: 34 },
        { stroke: ink, grid, ticks: { show: false }, font: "11px system-ui", size: 52,
          values: (_, ticks) => ticks.map(shortly) },
      ],
    }, [plot.x, ...order.map((k) => heights[k])], box);
    host.querySelector(".drawn")?.remove();
    host.append(box);
    host.classList.add("is-drawn");
    new ResizeObserver(() => { if (box.isConnected) u.setSize(size()); }).observe(host);
  }

  const drawNew = () => document.querySelectorAll(".plot[data-plot]:not(.is-drawn)").forEach(draw);
  const drawAll = () => document.querySelectorAll(".plot[data-plot]").forEach(draw);

  document.addEventListener("panda:replaced", drawNew);
  document.addEventListener("panda:theme", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawNew();
})();
