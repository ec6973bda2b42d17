// Small comforts; every page works without.
for (const field of document.querySelectorAll("[data-select]")) {
  field.addEventListener("focus", () => field.select());
}
// The second click of a double click sends nothing more.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
    // A download leaves the page as it is.
    setTimeout(() => delete form.dataset.sent, 5000);
  });
}
// What is done to several requests says to how many.
const several = document.querySelector("form[data-bulk]");
if (several) {
  const all = several.querySelector("[data-all]");
  const boxes = [...several.querySelectorAll("input[name=id]")];
  const count = () => {
    const ticked = boxes.filter((box) => box.checked).length;
    for (const button of several.querySelectorAll("button[name=action]")) {
      button.disabled = !ticked;
      button.querySelector("[data-count]").textContent = ticked ? ` (${ticked})` : "";
    }
    several.querySelector("[data-hint]").hidden = ticked > 0;
    all.checked = ticked === boxes.length;
    all.indeterminate = ticked > 0 && ticked < boxes.length;
  };
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
  });
  several.addEventListener("change", count);
  // Coming back, the browser ticks what was ticked.
  window.addEventListener("pageshow", count);
  count();
}
// The browser's time zone, until somebody chooses another.
if (!/(^|; )bgfiles_timezone=/.test(document.cookie)) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const base = new URL("..", import.meta.url).pathname;
  if (zone) document.cookie = `bgfiles_timezone=${zone}; Path=${base}; Max-Age=31536000; SameSite=Lax`;
}
