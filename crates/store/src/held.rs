//! What open legal holds cover.

use std::collections::BTreeSet;

use countersign_core::digest::{Salt, salted};
use serde_json::Value;
use uuid::Uuid;

use crate::{StoreError, Transaction};

/// An open hold on a person, who is stored as a salted digest only.
pub(crate) struct HeldPerson {
    /// The hold.
    pub(crate) hold: i64,
    salt: Salt,
    digest: Vec<u8>,
}

impl HeldPerson {
    /// Whether it is on the person with this name.
    pub(crate) fn is(&self, name: &str) -> bool {
        salted(&self.salt, name.as_bytes()).as_slice() == self.digest
    }
}

/// The people under open holds.
pub(crate) async fn held_people(tx: &Transaction) -> Result<Vec<HeldPerson>, StoreError> {
    let sql = "SELECT id, salt, subject FROM legal_holds WHERE released_at IS NULL AND subject IS NOT NULL";
    let mut people = Vec::new();
    for row in tx.query(sql, &[]).await? {
        let hold = row.get(0);
        let salt = Salt::try_from(row.get::<_, Vec<u8>>(1));
        let salt =
            salt.map_err(|_| StoreError::Corrupt(format!("the salt of legal hold {hold} is malformed")))?;
        people.push(HeldPerson { hold, salt, digest: row.get(2) });
    }
    Ok(people)
}

/// Those of these actions that an open hold covers: itself, or a person who is named in what is stored of it.
pub(crate) async fn held_of(tx: &Transaction, actions: &[Uuid]) -> Result<BTreeSet<Uuid>, StoreError> {
    let sql = "SELECT action FROM legal_holds WHERE released_at IS NULL AND action = ANY($1)";
    let mut held: BTreeSet<Uuid> = tx.query(sql, &[&actions]).await?.iter().map(|row| row.get(0)).collect();
    let people = held_people(tx).await?;
    if people.is_empty() {
        return Ok(held);
    }
    for action in actions {
        let mut named = false;
        for row in tx.query(&tx.prepare_cached(STORED_OF_ACTION).await?, &[action]).await? {
            each_string(row.get(0), &mut |name| named |= people.iter().any(|person| person.is(name)));
        }
        if named {
            held.insert(*action);
        }
    }
    Ok(held)
}

/// Everything of one action that erasures and legal holds search for people.
pub(crate) const STORED_OF_ACTION: &str = "
    SELECT unnest(ARRAY[body, content, edited]) FROM payloads WHERE action = $1
    UNION ALL SELECT result FROM outcomes WHERE action = $1
    UNION ALL SELECT result FROM late_results WHERE action = $1
    UNION ALL SELECT f.correction FROM findings f JOIN audits u ON u.id = f.audit WHERE u.action = $1
    UNION ALL SELECT f.correction FROM gold_findings f JOIN gold_items g ON g.id = f.item JOIN audits u ON u.id = g.audit
              WHERE u.action = $1";

/// Calls `found` with every string in a stored value, if it is JSON.
pub(crate) fn each_string(stored: Option<&[u8]>, found: &mut impl FnMut(&str)) {
    let mut rest: Vec<Value> =
        stored.and_then(|stored| serde_json::from_slice(stored).ok()).into_iter().collect();
    while let Some(value) = rest.pop() {
        match value {
            Value::String(text) => found(&text),
            Value::Array(all) => rest.extend(all),
            Value::Object(members) => {
                for (name, value) in members {
                    found(&name);
                    rest.push(value);
                }
            }
            _ => {}
        }
    }
}
