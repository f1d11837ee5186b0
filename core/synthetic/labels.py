"""What the city is made of: fine enough that every format's classes can be told from it."""

KINDS = (
    "sky",  # and no echo at all
    "own_vehicle",
    "adult",
    "child",
    "construction_worker",
    "barrier",
    "debris",
    "rubbish",
    "traffic_cone",
    "bicycle",
    "bicyclist",  # with the bicycle
    "bus",
    "car",
    "excavator",
    "motorcycle",
    "motorcyclist",  # with the motorcycle
    "trailer",
    "truck",
    "road",
    "marking",
    "parking",
    "sidewalk",
    "grass",
    "soil",
    "paving",  # of traffic islands and squares
    "building",
    "wall",
    "post",
    "kiosk",
    "lamp",
    "sign",
    "sign_pole",
    "trunk",
    "leaves",
)
KIND = {name: index for index, name in enumerate(KINDS)}  # name -> id


def kind_table(groups: dict[int, tuple[str, ...]]) -> list[int]:
    """A format's class of each kind, in the order of KINDS, from the kinds that each class takes in.

    Raises ValueError: a kind is in no class or in several.
    """
    classes = {kind: label for label, kinds in groups.items() for kind in kinds}
    if sum(map(len, groups.values())) != len(KINDS) or classes.keys() != set(KINDS):
        raise ValueError("every kind should be in one class")
    return [classes[kind] for kind in KINDS]
