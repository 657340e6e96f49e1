// The archive's page: follows what is under way.
"use strict";
async function look() {
  const state = document.getElementById("state");
  let pause = state.dataset.running === "1" ? 1000 : 5000;
  try {
    const answer = await fetch("/archive", { headers: { "X-Part": "1" } });
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("state");
      if (fresh && fresh.outerHTML !== state.outerHTML) state.replaceWith(fresh);
    }
  } catch {
    pause = 10000;
  }
  setTimeout(look, pause);
}
setTimeout(look, 1000);
