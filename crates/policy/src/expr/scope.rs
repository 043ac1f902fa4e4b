//! The names that each kind of expression may use.

/// A name that an expression may use, and its fields; if there are none, any field may be used.
pub(super) struct Root {
    pub(super) name: &'static str,
    pub(super) fields: &'static [&'static str],
}

/// The names that an expression may use.
pub(crate) struct Scope {
    pub(super) roots: &'static [Root],
    /// Whether whole objects may be used as values; otherwise only their fields may.
    pub(super) whole_objects: bool,
    /// Whether expressions may loop, which only lists of limited length allow.
    pub(super) loops: bool,
}

/// Conditions of rules and of authority, limits and risk bands.
pub(crate) static CONDITION: Scope = Scope {
    roots: &[
        Root {
            name: "action",
            fields: &[
                "source",
                "id",
                "tool",
                "arguments",
                "reason",
                "task",
                "context",
                "expires_at",
                "compensates",
            ],
        },
        Root { name: "agent", fields: &["id", "version", "model", "on_behalf_of"] },
        Root {
            name: "tool",
            fields: &["name", "description", "connector", "idempotent", "reversible", "risk"],
        },
        Root { name: "now", fields: &[] },
    ],
    whole_objects: false,
    loops: true,
};

/// Scores: without the time, so that anybody can evaluate one again later.
pub(crate) static SCORE: Scope = Scope {
    roots: &[
        Root { name: "action", fields: CONDITION.roots[0].fields },
        Root { name: "agent", fields: CONDITION.roots[1].fields },
        Root { name: "tool", fields: CONDITION.roots[2].fields },
    ],
    whole_objects: false,
    loops: true,
};

/// `exclude`: who may not decide.
pub(crate) static EXCLUSION: Scope = Scope {
    roots: &[
        Root { name: "action", fields: CONDITION.roots[0].fields },
        Root { name: "agent", fields: CONDITION.roots[1].fields },
        Root { name: "tool", fields: CONDITION.roots[2].fields },
        Root { name: "now", fields: &[] },
        Root { name: "reviewer", fields: &["id", "person", "groups"] },
    ],
    whole_objects: false,
    loops: true,
};

/// Arguments of compensating actions.
pub(crate) static COMPENSATION: Scope = Scope {
    roots: &[
        Root { name: "action", fields: CONDITION.roots[0].fields },
        Root { name: "result", fields: &[] },
    ],
    whole_objects: true,
    loops: false,
};
