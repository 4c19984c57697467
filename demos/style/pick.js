/* A shape of a picture that is clicked, or chosen by Enter or space: it says its words below the picture
   (data-told), or opens what stands elsewhere (data-opens). `element` holds the pictures. */
const pick = (event) => {
  const shape = event.target.closest?.("[data-told],[data-opens]");
  if (!shape) return;
  if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  const picture = shape.closest("svg");
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
