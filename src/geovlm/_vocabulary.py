"""Words for what is seen from above: land covers, synonyms, odd names. Data, and how words are compared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What the ground is covered with nearly everywhere, said as captions say it, and the words that mean the same or a kind
# of it: a query for one of these is not held against the cover. All in the singular, in small letters.
LAND_COVERS: Mapping[str, tuple[str, ...]] = {
    "forest": ("forest", "wood", "woodland", "tree", "tree cover", "jungle", "rainforest", "timber", "mangrove"),
    "shrubland": ("shrub", "shrubland", "scrub", "scrubland", "bush", "bushland", "chaparral", "heath", "savanna"),
    "grassland": ("grass", "grassland", "meadow", "pasture", "rangeland", "prairie", "steppe", "lawn"),
    "farmland": (
        *("farmland", "farm", "cropland", "crop", "annual crop", "agriculture", "agricultural land", "arable land"),
        *("field", "farm field", "crop field", "wheat", "maize", "corn", "soy", "rice", "paddy", "rice paddy"),
    ),
    "bare soil": ("soil", "bare soil", "bare land", "bare ground", "bareland", "barren land", "dirt", "mud"),
    "sand desert": ("desert", "sand", "dune", "sand dune"),
    "rocky mountains": ("rock", "mountain", "mountain range", "cliff", "hill", "ridge"),
    "snow and ice": ("snow", "ice", "glacier", "snowfield", "iceberg", "sea ice", "ice sheet"),
    "a river": ("river", "stream", "creek", "canal", "waterway", "water", "water body", "riverbed"),
    "a lake": ("lake", "pond", "reservoir", "lagoon", "water", "water body", "basin"),
    "open sea": ("sea", "ocean", "bay", "gulf", "strait", "water", "water body"),
    "wetland": ("wetland", "marsh", "marshland", "swamp", "bog", "mire", "peatland", "mudflat", "salt marsh"),
    "a beach": ("beach", "shore", "shoreline", "coast", "coastline", "seashore", "sandbank"),
    "residential houses": (
        *("house", "home", "residential", "residential area", "residential building", "housing", "suburb", "village"),
        *("neighborhood", "neighbourhood", "settlement", "building", "town"),
    ),
    "dense city blocks": (
        *("city", "town", "urban area", "urban land", "downtown", "city center", "city centre", "building"),
        *("commercial area", "office building", "apartment", "apartment block", "skyscraper", "high rise"),
    ),
    "industrial halls": (
        *("industry", "industrial", "industrial area", "industrial building", "factory", "warehouse", "plant"),
        *("power plant", "logistics center", "logistics centre", "building", "hangar"),
    ),
    "a road": ("road", "street", "highway", "freeway", "motorway", "lane", "track", "intersection", "crossroad"),
    "a railway": ("railway", "railroad", "rail", "rail track", "railway track", "railway line", "train track"),
    "paved ground": ("pavement", "asphalt", "concrete", "paved area", "car park", "parking", "parking lot", "plaza"),
    "a park": ("park", "garden", "green space"),
    "clouds": ("cloud", "fog", "haze", "cloud cover"),
}

# Words that end in one of the above and mean something else.
OTHER_THINGS: tuple[str, ...] = (
    *("solar farm", "wind farm", "solar park", "wind park", "fish farm", "container park", "amusement park"),
    *("theme park", "water park", "trailer park", "mobile home park", "business park", "industrial park"),
    *("baseball field", "soccer field", "football field", "sports field", "rugby field", "hockey field"),
    *("playing field", "athletic field", "ground track field", "oil field", "gas field", "solar field", "corn maze"),
    *("running track", "race track", "athletics track", "golf course", "waste water", "water tank", "roof garden"),
    *("green house", "glass house", "power house", "light house", "solar plant", "sewage plant", "treatment plant"),
    *("solar power plant", "water treatment plant", "wastewater treatment plant", "wind power plant"),
)

# What else common classes of remote-sensing data sets are called: cleaned names in the singular, and words that mean
# the same thing seen from above.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    # transport
    "airplane": ("aircraft", "plane", "jet"),
    "airport": ("airfield", "airport with runways and terminals"),
    "airport hangar": ("aircraft hangar", "hangar"),
    "bridge": ("bridge over water", "road bridge"),
    "container": ("shipping containers", "container yard"),
    "crosswalk": ("zebra crossing", "pedestrian crossing"),
    "ferry terminal": ("ferry landing", "ferry port"),
    "freeway": ("motorway", "highway", "expressway"),
    "harbor": ("harbour", "port", "marina with boats"),
    "helipad": ("helicopter landing pad", "heliport"),
    "highway": ("main road", "motorway", "freeway"),
    "interchange": ("highway interchange", "road junction with ramps"),
    "intersection": ("crossroads", "road junction"),
    "marina": ("yacht harbour", "docks with boats"),
    "overpass": ("flyover", "road over a road"),
    "parking": ("parking lot", "car park", "parked cars"),
    "parking lot": ("car park", "parking area", "parked cars"),
    "pier": ("jetty", "landing stage"),
    "port": ("harbour", "docks", "seaport"),
    "railway": ("railroad", "railway tracks", "train line"),
    "railway station": ("train station", "railroad station"),
    "road": ("street", "paved road"),
    "roundabout": ("traffic circle", "rotary"),
    "runway": ("airport runway", "airstrip", "landing strip"),
    "ship": ("vessel", "boat", "cargo ship"),
    "shipyard": ("dockyard", "dry dock"),
    "toll booth": ("toll station", "toll plaza"),
    "vehicle": ("car", "cars and trucks"),
    "viaduct": ("elevated road", "elevated highway", "long bridge of many spans"),
    # buildings and what people live in
    "apartment": ("apartment block", "block of flats"),
    "building": ("house", "roof of a building"),
    "center": ("civic center", "large public building", "centre with a plaza"),
    "church": ("chapel", "cathedral", "place of worship"),
    "city building": ("urban buildings", "city block"),
    "commercial": ("commercial area", "business district", "shops and offices"),
    "commercial area": ("business district", "shops and offices"),
    "construction site": ("building site", "building under construction"),
    "dense residential": ("crowded houses", "densely built residential area"),
    "greenhouse": ("glasshouse", "plastic greenhouse"),
    "hospital": ("medical center", "clinic"),
    "impoverished settlement": ("slum", "shanty town", "informal settlement"),
    "medium residential": ("residential area", "houses with gardens"),
    "mobile home park": ("trailer park", "rows of mobile homes"),
    "palace": ("castle", "historic palace with courtyards"),
    "place of worship": ("church", "mosque", "temple"),
    "residential": ("residential area", "houses", "neighbourhood"),
    "residential area": ("houses", "neighbourhood", "housing estate"),
    "resort": ("holiday resort", "hotel with pools"),
    "school": ("school campus", "university campus", "school with a playing field"),
    "shopping mall": ("shopping center", "large store with parking"),
    "sparse residential": ("scattered houses", "isolated house", "detached houses"),
    "square": ("plaza", "town square", "public square"),
    "swimming pool": ("pool", "outdoor swimming pool"),
    "tower": ("mast", "tall tower"),
    "village": ("hamlet", "small rural settlement"),
    # industry and energy
    "dam": ("barrage", "reservoir dam"),
    "electric substation": ("transformer station", "electrical substation"),
    "factory or power plant": ("factory", "power plant", "industrial plant"),
    "industrial": ("industrial area", "factory", "warehouses"),
    "industrial area": ("factory", "warehouses", "industrial estate"),
    "landfill": ("waste dump", "rubbish tip"),
    "oil or gas field": ("oil field", "well pads", "oil wells"),
    "oil well": ("pump jack", "drilling site"),
    "power plant": ("power station", "electricity plant with chimneys"),
    "quarry": ("open pit mine", "stone pit"),
    "solar panel": ("solar array", "photovoltaic panels", "solar farm"),
    "solar farm": ("solar park", "photovoltaic power plant", "rows of solar panels"),
    "storage tank": ("oil tank", "round storage tanks", "tank farm"),
    "surface mine": ("open pit mine", "open cast mine"),
    "thermal power station": ("power plant with cooling towers", "coal power plant"),
    "transformer station": ("electrical substation", "switchyard"),
    "wastewater treatment plant": ("sewage works", "sewage treatment plant", "round settling tanks"),
    "wind farm": ("wind turbines", "wind park"),
    "wind turbine": ("wind mill", "wind power turbine"),
    # sport and leisure
    "amusement park": ("theme park", "fairground"),
    "baseball diamond": ("baseball field", "ballpark"),
    "baseball field": ("baseball diamond", "ballpark"),
    "basketball court": ("outdoor basketball court",),
    "football field": ("soccer field", "football pitch"),
    "golf course": ("golf links", "fairways and bunkers"),
    "ground track field": ("running track", "athletics track", "sports field with a running track"),
    "park": ("city park", "public garden", "green space with paths"),
    "playground": ("sports ground", "playing field", "running track"),
    "race track": ("racing circuit", "racecourse"),
    "soccer field": ("football pitch", "football field"),
    "stadium": ("arena", "sports stadium with stands"),
    "tennis court": ("tennis courts", "hard court"),
    # water and coast
    "beach": ("sandy shore", "seaside", "sandy beach with waves"),
    "coastline": ("shoreline", "coast"),
    "island": ("islet", "land surrounded by water"),
    "lake": ("inland water", "body of water"),
    "lake or pond": ("lake", "pond", "body of water"),
    "pond": ("small lake", "water basin"),
    "river": ("stream", "watercourse", "winding river"),
    "sea or lake": ("sea", "lake", "open water"),
    "stream": ("brook", "creek"),
    "wetland": ("marsh", "swamp"),
    # vegetation and fields
    "annual crop": ("annual crop land", "field of crops", "arable land"),
    "chaparral": ("shrubland", "dry scrub"),
    "circular farmland": ("center-pivot irrigation", "round fields"),
    "crop field": ("cropland", "farm field"),
    "farmland": ("fields", "cropland", "agricultural land"),
    "forest": ("woodland", "trees", "wooded area"),
    "grassland": ("grass", "steppe", "prairie"),
    "herbaceous vegetation": ("grassland", "natural grassland", "herbs and low plants"),
    "meadow": ("grassland", "grass field"),
    "mangrove": ("mangrove forest", "coastal forest in water"),
    "orchard": ("fruit trees in rows", "fruit plantation"),
    "pasture": ("grazing land", "pasture land", "meadow for cattle"),
    "permanent crop": ("permanent crop land", "orchard or vineyard", "plantation"),
    "rectangular farmland": ("rectangular fields", "cropland"),
    "rice paddy": ("paddy field", "flooded rice field"),
    "shrubland": ("bushes", "scrub"),
    "terrace": ("terraced fields", "terraced hillside"),
    "vineyard": ("grapevines in rows", "wine field"),
    # bare ground, relief and weather
    "bare land": ("bare soil", "bare ground", "barren land"),
    "cloud": ("clouds", "cloud cover"),
    "desert": ("sand dunes", "arid land", "sand desert"),
    "mountain": ("mountains", "mountain range", "rocky peaks"),
    "sandbank": ("sandbar", "shoal"),
    "sea ice": ("ice floes", "drifting ice"),
    "snow-covered mountain": ("snowy peaks", "snow and rock"),
}

# Names of classes that no rule reads right: words written together, two things in one name, odd English.
NAMES: Mapping[str, str] = {
    # EuroSAT, PatternNet
    "sea lake": "sea or lake",
    "oil gas field": "oil or gas field",
    # fMoW
    "factory or powerplant": "factory or power plant",
    "nuclear powerplant": "nuclear power plant",
    # UC Merced, WHU-RS19 and others in small letters
    "baseballdiamond": "baseball diamond",
    "denseresidential": "dense residential",
    "footballfield": "football field",
    "golfcourse": "golf course",
    "mediumresidential": "medium residential",
    "mobilehomepark": "mobile home park",
    "parkinglot": "parking lot",
    "railwaystation": "railway station",
    "sparseresidential": "sparse residential",
    "storagetanks": "storage tanks",
    "tenniscourt": "tennis court",
    # RSI-CB
    "hirst": "sandbank",
    "residents": "residential area",
    "sandbeach": "sandy beach",
    "shrubwood": "shrubland",
    # RESISC45
    "snowberg": "snow-covered mountain",
}

# Where the thing that is meant ends and where it stands begins.
_PLACE = re.compile(
    r"\b(?:with|without|beside|besides|near|next|in|on|at|by|along|under|between|among|around|inside|surrounded|seen"
    r"|from|that|which)\b|[()]"
)
_ARTICLES = frozenset({"a", "an", "the", "some", "many", "several"})


def singular(word: str) -> str:
    """An English noun in the singular, by its ending; good enough to compare two words.

    Examples:
        >>> [singular(word) for word in ("roads", "cities", "beaches", "grass", "houses", "canvas")]
        ['road', 'city', 'beach', 'grass', 'house', 'canva']
    """
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in the singular, without articles."""
    words = re.findall(r"[^\W_]+", text.lower())
    return tuple(singular(word) for word in words if word not in _ARTICLES)


def things_in(text: str) -> Iterator[tuple[str, ...]]:
    """The words of each thing that a query names, without where it stands: "a row of houses by the sea"."""
    text = text.lower()
    before = _PLACE.split(text, maxsplit=1)[0]
    named = before if before.strip() else text
    for part in re.split(r"\b(?:of|and|or)\b|[,;/]", named):
        if words := words_of(part):
            yield words
