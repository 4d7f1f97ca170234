// Theme, refreshing, keys, copying. Everything works without it, only less at once.
"use strict";
(() => {
  const root = document.documentElement;
  const themes = ["auto", "light", "dark"];
  const live = document.querySelector(".live");
  let paused = false;

  function setTheme(name) {
    root.dataset.theme = name;
    document.cookie = `panda_theme=${name}; path=/; max-age=31536000; samesite=strict`;
    const button = document.querySelector(".theme");
    if (button) button.title = `Theme: ${name}`;
  }

  function show(state, word) {
    if (!live) return;
    live.dataset.state = state;
    live.textContent = word;
  }

  // Each [data-live] block of the page is replaced by its newer self, unless someone is busy in it.
  function replace(fresh) {
    const chosen = getSelection();
    for (const old of document.querySelectorAll("[data-live]")) {
      const next = fresh.querySelector(`[data-live="${CSS.escape(old.dataset.live)}"]`);
      const busy = old.contains(document.activeElement) || (chosen.type === "Range" && chosen.containsNode(old, true));
      if (next && !busy && next.outerHTML !== old.outerHTML) {
        const log = old.querySelector(".log");
        const top = log ? log.scrollTop : 0;
        old.replaceWith(document.adoptNode(next));
        const newLog = next.querySelector(".log");
        if (newLog) newLog.scrollTop = top;
      }
    }
  }

  async function refresh() {
    if (paused || document.hidden || !document.querySelector("[data-live]")) return;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(8000) });
      if (answer.redirected) return show("stale", "Logged out");
      if (!answer.ok) return show("stale", "Stale");
      replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      show("live", "Live");
    } catch {
      show("stale", "Stale");
    }
  }

  function togglePause() {
    paused = !paused;
    show(paused ? "paused" : "live", paused ? "Paused" : "Live");
    refresh();
  }

  document.addEventListener("click", async (event) => {
    if (event.target.closest(".live")) togglePause();
    if (event.target.closest(".theme")) setTheme(themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length]);
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      await navigator.clipboard.writeText(copy.dataset.copy);
      copy.textContent = "copied";
      setTimeout(() => { copy.textContent = "copy"; }, 1500);
    }
  });

  const places = { o: "/", j: "/jobs", s: "/jobsets", q: "/queues", c: "/flower/" };
  let afterG = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    if (event.key === "/") {
      event.preventDefault();
      document.querySelector(".search input")?.focus();
    } else if (event.key === ".") togglePause();
    else if (event.key === "g") afterG = Date.now();
    else if (places[event.key] && Date.now() - afterG < 1500) location.href = places[event.key];
  });

  const log = document.querySelector(".log");
  if (log) log.scrollTop = log.scrollHeight;
  setInterval(refresh, 5000);
})();
