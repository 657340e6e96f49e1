// Light or dark: as the system says until the button is pressed; kept in a cookie, so that pages come in the right colours.
"use strict";
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement.dataset;
  const dark = root.theme ? root.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.theme = dark ? "light" : "dark";
  document.cookie = `theme=${root.theme}; path=/; max-age=31536000; samesite=strict`;
});
