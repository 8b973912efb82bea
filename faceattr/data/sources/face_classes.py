"""Gender, age and race of FairFace and UTKFace on a common scale, so that both can train one head.

    gender      Male, Female                                  both
    age         years                                         UTKFace exact; FairFace as ranges
    age_group   FairFace's 9 ranges, in age order             both (an exact age has one range)
    race        FairFace's 7 classes                          UTKFace's Asian and Others are coarse: masks over them
    race_group  UTKFace's 5 classes                           both (a fine class has one coarse class)

UTKFace's Asian is East Asian or Southeast Asian; its Others ("like Hispanic, Latino, Middle Eastern") is
Latino_Hispanic or Middle Eastern. The orders are those in FairFace's own predict.py and of UTKFace's numbers.
"""

from bisect import bisect_right

from faceattr.attributes import Attribute
from faceattr.data.label_columns import AGE_LIMIT, LabelRow, class_label

GENDERS = ("Male", "Female")
AGE_GROUPS = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
_AGE_STARTS = (0, 3, 10, 20, 30, 40, 50, 60, 70)
RACES = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
RACE_GROUPS = ("White", "Black", "Asian", "Indian", "Others")
RACE_GROUP_MEMBERS: dict[str, tuple[str, ...]] = {
    "White": ("White",),
    "Black": ("Black",),
    "Asian": ("East Asian", "Southeast Asian"),
    "Indian": ("Indian",),
    "Others": ("Latino_Hispanic", "Middle Eastern"),
}

FACE_ATTRIBUTES: dict[str, Attribute] = {
    "age": Attribute(name="age", kind="age", classes=()),
    "age_group": Attribute(name="age_group", kind="multiclass", classes=AGE_GROUPS),
    "gender": Attribute(name="gender", kind="multiclass", classes=GENDERS),
    "race": Attribute(name="race", kind="multiclass", classes=RACES),
    "race_group": Attribute(name="race_group", kind="multiclass", classes=RACE_GROUPS),
}

# The class order in which the FairFace CLIP's published weights were trained: sorted() on strings.
SEED_004_CLASSES: dict[str, tuple[str, ...]] = {
    "age_group": (
        "0-2",
        "10-19",
        "20-29",
        "3-9",
        "30-39",
        "40-49",
        "50-59",
        "60-69",
        "more than 70",
    ),
    "gender": ("Female", "Male"),
    "race": ("Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "White"),
}


def age_group_of(years: float) -> int:
    """Returns the index in AGE_GROUPS of an age in completed years."""
    return bisect_right(_AGE_STARTS, years) - 1


def age_group_range(group: int) -> tuple[float, float]:
    """Returns the years of an age group, low <= age < high; the last one ends at AGE_LIMIT."""
    ends = (*_AGE_STARTS[1:], AGE_LIMIT)
    return float(_AGE_STARTS[group]), float(ends[group])


def fine_race_labels(race: str) -> LabelRow:
    """Returns `race` and `race_group` of one of FairFace's classes."""
    coarse = next(name for name, members in RACE_GROUP_MEMBERS.items() if race in members)
    return {"race": RACES.index(race), "race_group": RACE_GROUPS.index(coarse)}


def coarse_race_labels(race_group: str) -> LabelRow:
    """Returns `race_group` of one of UTKFace's classes, and `race` if it is determined, else `race_mask`."""
    fine = class_label("race", [RACES.index(name) for name in RACE_GROUP_MEMBERS[race_group]])
    return {"race_group": RACE_GROUPS.index(race_group), **fine}
