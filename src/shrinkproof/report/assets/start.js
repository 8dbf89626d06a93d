// Everything stands in the page already; what follows only helps to read it.

nameParts();
startDetails();
startTable();
document.addEventListener("click", pickFromAnywhere);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (byId("tip")) hideTip();
  if (highlighted !== NONE) highlight(highlighted);
});
document.documentElement.classList.add("scripted");
startFront();
