// Builds the page from the data, top down.
const usable = report.arms.map((arm, i) => (arm.scales.length > 1 ? i : -1)).filter((i) => i >= 0);
if (usable.length && report.columns.length) {
  buildExplorer(usable);
  buildCurves();
  buildTradeoffs();
} else {
  section("explorer", "Move the scale", "No curve has two finished scales yet.");
}
if (report.columns.length) buildCards();
buildSpeed();
buildHealth();
buildFailures();
await buildTables();
buildNotes();
document.documentElement.dataset.ready = "true";
