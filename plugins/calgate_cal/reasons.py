"""Why a pool could not serve a claim, in words; the keys are the notes of denial records."""

WHY = {
    "full": "all are out",
    "promised": "the free ones are kept for waiting users",
    "reserved": "the free ones are reserved for other groups",
    "capped": "the user's group holds the most that it can hold at once",
    "quarantined": "the user's own CAL is in quarantine",
    "not-assigned": "none is assigned to the user, and none is assigned dynamically",
    "not-allocated": "none is allocated to the document",
    "anonymous-full": "anonymous browsers hold the most that they can hold at once",
    "address-full": "anonymous browsers at this address hold the most that they can hold at once",
    "in-use-elsewhere": "the user's own CAL is in use on another machine",
    "taken-over": "another machine of the user took it over",
}
