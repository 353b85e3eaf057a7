// Light or dark: what the system asks for, until somebody presses the button. Runs before the
// page is drawn, so that nothing flashes.
"use strict";
(() => {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;

  const show = (theme) => {
    if (root.dataset.theme === theme) return;
    root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) label(button);
    document.dispatchEvent(new Event("themechange"));
  };
  const wanted = () => chosen ?? (system.matches ? "dark" : "light");
  const label = (button) => {
    const dark = root.dataset.theme === "dark";
    button.setAttribute("aria-pressed", String(dark));
    button.textContent = dark ? "Light" : "Dark";
  };

  show(wanted());
  system.addEventListener("change", () => show(wanted()));
  // Paper is white.
  window.addEventListener("beforeprint", () => show("light"));
  window.addEventListener("afterprint", () => show(wanted()));
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    label(button);
    button.addEventListener("click", () => {
      chosen = root.dataset.theme === "dark" ? "light" : "dark";
      show(chosen);
    });
  });
})();
