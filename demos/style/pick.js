/* A shape of a picture that is clicked, or chosen by Enter or space: it says its words below the picture
   (data-told), or opens what stands elsewhere (data-opens). The tab key comes to one shape of a picture, the
   arrows go on from there. `element` holds the pictures. */
const all = "[data-told],[data-opens]";
const pick = (event) => {
  const shape = event.target.closest?.(all);
  if (!shape) return;
  const picture = shape.closest("svg");
  if (event.type === "keydown") {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      const shapes = [...picture.querySelectorAll(all)];
      const next = shapes[(shapes.indexOf(shape) + step + shapes.length) % shapes.length];
      shape.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      event.preventDefault();
    }
    if (event.key !== "Enter" && event.key !== " ") return;
  }
  event.preventDefault();
  picture.querySelectorAll(".r-picked").forEach((other) => other.classList.remove("r-picked"));
  shape.classList.add("r-picked");
  const words = picture.parentElement.querySelector(".r-told");
  if (shape.dataset.told && words) words.textContent = shape.dataset.told;
  const there = shape.dataset.opens && document.getElementById(shape.dataset.opens);
  if (there) {
    there.open = true;
    there.scrollIntoView({ block: "center" });
  }
};
element.addEventListener("click", pick);
element.addEventListener("keydown", pick);
