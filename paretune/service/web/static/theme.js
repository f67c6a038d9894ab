// Light or dark, before anything is drawn: as the browser says, unless the reader has switched.
"use strict";
try {
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // a browser that keeps nothing goes by its own setting
}
