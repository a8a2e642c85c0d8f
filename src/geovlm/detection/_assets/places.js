// Places over a map, those of at least the slider's score; `#min=0.6` in the address sets the slider.
function showPlaces(map, layers, places, lowest, ramp) {
  const shapes = places.map((place) => {
    const shape = L.polygon(place.rings, { color: place.color, weight: 3, fillOpacity: 0.12 });
    return { shape: shape.bindPopup(() => describe(place)), score: place.score, layer: layers[place.layer] };
  });

  function describe(place) {
    const box = L.DomUtil.create("div", "gv-popup");
    L.DomUtil.create("b", "", box).textContent = place.query;
    L.DomUtil.create("div", "", box).textContent = "score " + place.score.toFixed(3);
    if (place.area) L.DomUtil.create("div", "", box).textContent = place.area;
    L.DomUtil.create("div", "", box).textContent = place.where;
    return box;
  }

  function filter(least) {
    let shown = 0;
    for (const { shape, score, layer } of shapes) {
      if (score >= least) {
        shown += 1;
        if (!layer.hasLayer(shape)) layer.addLayer(shape);
      } else if (layer.hasLayer(shape)) layer.removeLayer(shape);
    }
    slider.value = least;
    value.textContent = Number(least).toFixed(2);
    count.textContent = shown + " of " + shapes.length + " places";
  }

  const panel = L.control({ position: "bottomleft" });
  const box = L.DomUtil.create("div", "gv-places");
  const count = L.DomUtil.create("div", "", box);
  count.id = "gv-count";
  const label = L.DomUtil.create("label", "", box);
  label.append("score at least ");
  const value = L.DomUtil.create("output", "", label);
  const slider = L.DomUtil.create("input", "", label);
  Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.01, id: "gv-score" });
  slider.addEventListener("input", () => filter(Number(slider.value)));
  if (ramp) {
    L.DomUtil.create("div", "gv-key", box).style.background = ramp;
    const ends = L.DomUtil.create("div", "gv-ends", box);
    for (const end of ["0", "heat map", "1"]) L.DomUtil.create("span", "", ends).textContent = end;
  }
  L.DomEvent.disableClickPropagation(box);
  L.DomEvent.disableScrollPropagation(box);
  panel.onAdd = () => box;
  panel.addTo(map);

  function fromAddress() {
    const asked = Number(new URLSearchParams(location.hash.slice(1)).get("min"));
    filter(asked > 0 && asked <= 1 ? asked : lowest);
  }
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
}
