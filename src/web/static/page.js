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
const all = document.querySelector("[data-all]");
if (all) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll("input[name=id]")) box.checked = all.checked;
  });
}
// The browser's time zone, until somebody chooses another.
if (!/(^|; )bgfiles_timezone=/.test(document.cookie)) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const base = new URL("..", import.meta.url).pathname;
  if (zone) document.cookie = `bgfiles_timezone=${zone}; Path=${base}; Max-Age=31536000; SameSite=Lax`;
}
