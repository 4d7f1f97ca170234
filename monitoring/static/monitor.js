// Theme, live blocks, keys, copying, choosing rows. Everything works without it, only less at once.
"use strict";
(() => {
  const root = document.documentElement;
  const themes = ["auto", "light", "dark"];
  const live = document.querySelector(".live");
  const topics = document.body.dataset.topics || "";
  const atLeastMs = 1000;  // between two refreshes, however much changes
  let paused = false;
  let stream = null;
  let pollMs = 0;
  let refreshedAt = 0;
  let waiting = 0;

  function keep(name, value) {
    document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=strict`;
  }

  function press(name, value) {
    for (const each of document.querySelectorAll(`[data-${name}-to]`)) each.setAttribute("aria-pressed", each.dataset[`${name}To`] === value);
  }

  function setTheme(name) {
    root.dataset.theme = name;
    keep("panda_theme", name);
    press("theme", name);
    const button = document.querySelector(".theme");
    if (button) button.title = `Theme: ${name}`;
    document.dispatchEvent(new Event("panda:theme"));
  }

  function show(state, word) {
    if (!live) return;
    live.dataset.state = state;
    live.textContent = word;
  }

  // Times come in UTC. Who wants their own machine's clock gets every moment of the page by it, and its zone said.
  const local = () => /(?:^|; )panda_zone=local(?:;|$)/.test(document.cookie);
  const two = (n) => String(n).padStart(2, "0");

  function zoneOf(at) {
    const ahead = -at.getTimezoneOffset();
    const rest = Math.abs(ahead) % 60;
    return ahead ? `UTC${ahead < 0 ? "−" : "+"}${Math.floor(Math.abs(ahead) / 60)}${rest ? `:${two(rest)}` : ""}` : "UTC";
  }

  function localText(was, at) {
    const clock = `${two(at.getHours())}:${two(at.getMinutes())}`;
    const date = `${at.getDate()} ${at.toLocaleString("en", { month: "short" })}`;
    const isToday = at.toDateString() === new Date().toDateString();
    if (/^\d\d:\d\d:\d\d$/.test(was)) return isToday ? `${clock}:${two(at.getSeconds())}` : `${date} ${clock}`;
    if (/^\d\d:\d\d$/.test(was)) return isToday ? clock : date;
    return /^\d+ [A-Z][a-z]{2} \d\d:\d\d$/.test(was) ? `${date} ${clock}` : was;
  }

  function showZone() {
    if (!local()) return;
    for (const each of document.querySelectorAll("time[datetime]:not([data-utc])")) {
      const at = new Date(each.dateTime);
      each.dataset.utc = each.textContent;
      each.textContent = localText(each.textContent, at);
      const after = each.nextSibling;
      if (after?.nodeType === Node.TEXT_NODE) after.data = after.data.replace(/^\s+UTC\b/, ` ${zoneOf(at)}`);
    }
    for (const each of document.querySelectorAll(".zone")) each.textContent = zoneOf(new Date());
  }

  // What the server sent: a plot that was drawn into a block since then is no change.
  const sent = new WeakMap();
  for (const block of document.querySelectorAll("[data-live]")) sent.set(block, block.outerHTML);

  // Each [data-live] block of the page is replaced by its newer self, unless someone is busy in it.
  function replace(fresh) {
    const chosen = getSelection();
    for (const old of document.querySelectorAll("[data-live]")) {
      const next = fresh.querySelector(`[data-live="${CSS.escape(old.dataset.live)}"]`);
      const busy = old.contains(document.activeElement) || (chosen.type === "Range" && chosen.containsNode(old, true))
        || old.querySelector("input:checked") || (dragged && old.contains(dragged.svg));
      const html = next ? next.outerHTML : "";
      if (next && old.dataset.rows !== undefined && old.querySelector("tr[data-id]") && next.querySelector("tr[data-id]")) {
        replaceRows(old, next);
        continue;
      }
      if (next && !busy && html !== (sent.get(old) ?? old.outerHTML)) {
        const log = old.querySelector(".log");
        const top = log ? log.scrollTop : 0;
        const atEnd = log && log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
        const open = [...old.querySelectorAll("details")].map((each) => each.open);
        old.replaceWith(document.adoptNode(next));
        sent.set(next, html);
        next.querySelectorAll("details").forEach((each, k) => { each.open = open[k] ?? each.open; });
        const newLog = next.querySelector(".log");
        if (newLog) newLog.scrollTop = atEnd ? newLog.scrollHeight : top;
      }
    }
    showZone();
    document.dispatchEvent(new Event("panda:replaced"));
  }

  async function refresh() {
    waiting = 0;
    if (paused || document.hidden || !document.querySelector("[data-live]")) return;
    refreshedAt = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(8000) });
      if (answer.redirected) return show("stale", "Logged out");
      if (!answer.ok) return show("stale", "Stale");
      replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      if (!paused) show("live", "Live");
    } catch {
      show("stale", "Stale");
    }
  }

  function refreshSoon() {
    if (waiting) return;
    waiting = setTimeout(refresh, Math.max(0, refreshedAt + atLeastMs - Date.now()));
  }

  // One stream a tab, and none while nobody looks at it: browsers allow six connections to a host.
  function listen() {
    if (stream || !topics || document.hidden || paused) return;
    stream = new EventSource(`/events/stream?topics=${encodeURIComponent(topics)}`);
    stream.addEventListener("hello", () => { pollMs = 0; refreshSoon(); });
    stream.addEventListener("changed", refreshSoon);
    stream.addEventListener("open", () => show("live", "Live"));
    stream.addEventListener("error", () => {
      if (stream && stream.readyState === EventSource.CLOSED) {
        stop();
        pollMs = 15000;
        setTimeout(listen, 60000);
      } else show("stale", "Reconnecting");
    });
  }

  function stop() {
    if (stream) stream.close();
    stream = null;
  }

  function togglePause() {
    paused = !paused;
    show(paused ? "paused" : "live", paused ? "Paused" : "Live");
    if (paused) stop();
    else { listen(); refresh(); }
  }

  // What is ticked, or else everything that the filter means.
  function countChosen() {
    const boxes = [...document.querySelectorAll("input[name=job]")];
    const bar = document.querySelector(".bulk");
    if (!bar) return;
    const n = boxes.filter((box) => box.checked).length;
    const all = bar.dataset.all;
    bar.querySelector(".n-chosen").textContent = n ? `${n} ticked` : all ? all[0].toUpperCase() + all.slice(1) : bar.dataset.none;
    for (const button of bar.querySelectorAll("[data-act]")) button.disabled = !n && !all;
  }

  // A list keeps its place: rows that are here change, new ones wait until somebody wants to see them.
  function replaceRows(old, next) {
    const rows = new Map([...next.querySelectorAll("tr[data-id]")].map((row) => [row.dataset.id, row]));
    const here = new Set();
    for (const row of old.querySelectorAll("tr[data-id]")) {
      const newer = rows.get(row.dataset.id);
      here.add(row.dataset.id);
      if (!newer || newer.outerHTML === row.outerHTML) continue;
      newer.querySelector("input[name=job]").checked = row.querySelector("input[name=job]").checked;
      const focused = row.contains(document.activeElement) && document.activeElement;
      row.replaceWith(newer);
      if (focused) newer.querySelector(focused.matches("input") ? "input[name=job]" : "a.l")?.focus();
    }
    const n = [...rows.keys()].filter((id) => !here.has(id)).length;
    let more = document.querySelector(".more-rows");
    if (!n) { more?.remove(); return; }
    if (!more) {
      more = document.createElement("button");
      more.type = "button";
      more.className = "more-rows";
      more.addEventListener("click", () => location.reload());
      old.before(more);
    }
    more.textContent = `${n} newer — show`;
  }

  // Over several bars of a histogram: the time that they span.
  let dragged = null;
  document.addEventListener("pointerdown", (event) => {
    const svg = event.target.closest("svg[data-link]");
    dragged = svg && { svg, x: event.clientX, mark: null };
  });
  document.addEventListener("pointermove", (event) => {
    if (!dragged || Math.abs(event.clientX - dragged.x) < 8) return;
    const { svg, x } = dragged;
    const left = svg.getBoundingClientRect().left;
    dragged.mark ??= svg.appendChild(document.createElementNS(svg.namespaceURI, "rect"));
    const mark = { class: "dragged", x: Math.max(0, Math.min(x, event.clientX) - left), y: 0, width: Math.abs(event.clientX - x), height: "100%" };
    for (const [name, value] of Object.entries(mark)) dragged.mark.setAttribute(name, value);
  });
  function drop() {
    dragged?.mark?.remove();
    dragged = null;
  }
  document.addEventListener("pointercancel", drop);
  document.addEventListener("pointerup", (event) => {
    if (!dragged || Math.abs(event.clientX - dragged.x) < 8) return drop();
    const { svg, x } = dragged;
    const box = svg.getBoundingClientRect();
    const [from, until] = [Number(svg.dataset.from), Number(svg.dataset.until)];
    const at = (px) => from + Math.min(1, Math.max(0, (px - box.left) / box.width)) * (until - from);
    const iso = (s) => `${new Date(s * 1000).toISOString().slice(0, 19)}Z`;
    const [low, high] = [Math.min(x, event.clientX), Math.max(x, event.clientX)];
    const link = svg.dataset.link.replace("FROM", encodeURIComponent(iso(Math.floor(at(low)))))
      .replace("UNTIL", encodeURIComponent(iso(Math.ceil(at(high)) + 1)));
    drop();
    location.href = link;
  });
  document.addEventListener("dragstart", (event) => { if (event.target.closest("svg[data-link]")) event.preventDefault(); });

  document.addEventListener("click", async (event) => {
    if (event.target.closest(".live")) togglePause();
    if (event.target.closest(".theme")) setTheme(themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length]);
    const theme = event.target.closest("[data-theme-to]");
    if (theme) setTheme(theme.dataset.themeTo);
    const zone = event.target.closest("[data-zone-to]");
    if (zone) { keep("panda_zone", zone.dataset.zoneTo); location.reload(); }
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const word = copy.textContent;
      await navigator.clipboard.writeText(copy.dataset.copy);
      copy.textContent = "copied";
      setTimeout(() => { copy.textContent = word; }, 1500);
    }
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("input.all")) {
      for (const box of document.querySelectorAll("input[name=job]")) box.checked = event.target.checked;
    }
    if (event.target.matches("input[type=checkbox]")) countChosen();
    if (event.target.matches("select[data-submit]")) event.target.form.submit();
  });

  const places = { o: "/", j: "/jobs", t: "/jobsets", s: "/sites", e: "/errors", i: "/incidents", p: "/pilots", m: "/me", c: "/celery" };
  let afterG = 0;
  let row = -1;

  function goToRow(step) {
    const links = [...document.querySelectorAll("main tbody tr td:first-child a, main tbody tr td:nth-child(2) a.l")];
    if (!links.length) return;
    const here = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
    if (here >= 0) row = here;
    row = Math.min(links.length - 1, Math.max(0, row + step));
    links[row].focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), textarea, select")) return;
    const afterGo = Date.now() - afterG < 1500;
    if (event.key === "/") {
      event.preventDefault();
      document.querySelector(".search input")?.focus();
    } else if (event.key === "f") {
      const filter = document.querySelector(".filter input[name=add], .filter input:not([type=hidden])");
      if (filter) { event.preventDefault(); filter.focus(); }
    } else if (event.key === ".") togglePause();
    else if (event.key === "?") location.href = "/help";
    else if (event.key === "g") afterG = Date.now();
    else if (afterGo && places[event.key]) location.href = places[event.key];
    else if (event.key === "t") {
      const table = document.querySelector(".astable");
      if (table) table.open = !table.open;
    } else if (event.key === "j") goToRow(1);
    else if (event.key === "k") goToRow(-1);
    else if (event.key === "x") {
      const box = document.activeElement.closest("tr")?.querySelector("input[name=job]");
      if (box) { box.checked = !box.checked; countChosen(); }
    } else if (event.key === "r") document.querySelector("[data-key=r]:not(:disabled)")?.click();
  });

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop();
    else { listen(); refreshSoon(); }
  });
  const log = document.querySelector(".log:not(.found)");
  if (log && location.hash !== "#first-error") log.scrollTop = log.scrollHeight;
  countChosen();
  showZone();
  listen();
  setInterval(() => { if (pollMs || (!topics && document.querySelector("[data-live]"))) refresh(); }, 15000);
})();
