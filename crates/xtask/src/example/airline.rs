//! The airline's tools: a table of reservations, bags, passengers and certificates.

use std::collections::BTreeMap;

use countersign_testkit::tools::Behaviour;
use serde_json::{Value, json};

/// The airline's books. A reservation or customer named in a call is assumed to exist.
#[derive(Default)]
pub(crate) struct Airline {
    reservations: BTreeMap<String, Reservation>,
    certificates: BTreeMap<String, Value>,
    booked: u32,
}

#[derive(Default)]
struct Reservation {
    cancelled: bool,
    /// What has been changed, by member.
    changes: BTreeMap<&'static str, Value>,
}

type Answer = Result<Value, (u16, String)>;

impl Behaviour for Airline {
    fn act(&mut self, tool: &str, arguments: &Value) -> Answer {
        let text = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
        match tool {
            "book_reservation" => Ok(self.book(arguments)),
            "cancel_reservation" => self.cancel(&text("reservation_id")),
            "restore_reservation" => {
                *self.reservations.entry(text("reservation_id")).or_default() = Reservation::default();
                Ok(json!({"reservation_id": text("reservation_id"), "status": "restored"}))
            }
            "update_reservation_flights" => self.change(arguments, "flights"),
            "update_reservation_baggages" => self.change(arguments, "total_baggages"),
            "update_reservation_passengers" => self.change(arguments, "passengers"),
            "get_reservation_details" => {
                let id = text("reservation_id");
                let reservation = self.reservations.entry(id.clone()).or_default();
                let status = if reservation.cancelled { "cancelled" } else { "booked" };
                Ok(json!({"reservation_id": id, "status": status, "changes": reservation.changes}))
            }
            "send_certificate" => {
                let id = format!("certificate_{:04}", self.certificates.len() + 1);
                self.certificates.insert(id.clone(), arguments["amount"].clone());
                Ok(json!({"certificate_id": id, "user_id": text("user_id"), "amount": arguments["amount"]}))
            }
            "revoke_certificate" => match self.certificates.remove(&text("certificate_id")) {
                Some(_) => Ok(json!({"certificate_id": text("certificate_id"), "status": "revoked"})),
                None => Err((404, "there is no such certificate".into())),
            },
            "get_user_details" => Ok(json!({"user_id": text("user_id"), "membership": "regular"})),
            "search_direct_flight" | "search_onestop_flight" => Ok(json!([])),
            "list_all_airports" => Ok(json!(["JFK", "SEA", "ORD", "SFO"])),
            "calculate" | "think" => Ok(Value::Null),
            "transfer_to_human_agents" => Ok(json!("transferred")),
            other => Err((404, format!("the airline has no tool {other:?}"))),
        }
    }
}

impl Airline {
    fn book(&mut self, arguments: &Value) -> Value {
        self.booked += 1;
        let id = format!("NEW{:03}", self.booked);
        let reservation = self.reservations.entry(id.clone()).or_default();
        reservation.changes.insert("flights", arguments["flights"].clone());
        json!({"reservation_id": id, "status": "booked"})
    }

    fn cancel(&mut self, id: &str) -> Answer {
        let reservation = self.reservations.entry(id.into()).or_default();
        if reservation.cancelled {
            return Err((409, format!("reservation {id} has been cancelled before")));
        }
        reservation.cancelled = true;
        Ok(json!({"reservation_id": id, "status": "cancelled"}))
    }

    fn change(&mut self, arguments: &Value, member: &'static str) -> Answer {
        let id = arguments["reservation_id"].as_str().unwrap_or_default();
        let reservation = self.reservations.entry(id.into()).or_default();
        if reservation.cancelled {
            return Err((409, format!("reservation {id} has been cancelled")));
        }
        reservation.changes.insert(member, arguments[member].clone());
        Ok(json!({"reservation_id": id, "status": "changed", "changed": member}))
    }
}

#[cfg(test)]
mod tests {
    use countersign_core::sources::Sources;
    use countersign_policy::Configuration;

    use super::*;

    #[test]
    fn what_the_service_answers_fits_the_tools_that_undo_it() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/airline/");
        let read = |name: &str| std::fs::read_to_string(format!("{folder}{name}")).unwrap();
        let tools = read("tools.yaml").replace("${AIRLINE_TOOLS_URL}", "http://127.0.0.1:8090");
        let sources = Sources { policy: read("policy.yaml"), tools, directory: read("directory.yaml") };
        let tools = Configuration::parse(&sources).unwrap().tools;
        let mut airline = Airline::default();
        for (tool, arguments) in [
            ("send_certificate", json!({"user_id": "tilda_brandt_5501", "amount": "50"})),
            ("book_reservation", json!({"flights": []})),
            ("cancel_reservation", json!({"reservation_id": "VD3T8K"})),
        ] {
            let result = airline.act(tool, &arguments).unwrap();
            let reversible = tools.get(tool).unwrap().reversible().unwrap();
            let undoing = reversible.arguments(&json!({"arguments": arguments}), &result).unwrap();
            tools.get(reversible.by()).unwrap().check_arguments(&undoing).unwrap();
            assert!(airline.act(reversible.by(), &undoing).is_ok(), "{tool}");
        }
    }

    #[test]
    fn a_reservation_is_cancelled_once_and_not_changed_afterwards() {
        let mut airline = Airline::default();
        let reservation = json!({"reservation_id": "R1", "total_baggages": 2});
        assert!(airline.act("update_reservation_baggages", &reservation).is_ok());
        assert!(airline.act("cancel_reservation", &reservation).is_ok());
        assert_eq!(airline.act("cancel_reservation", &reservation).unwrap_err().0, 409);
        assert_eq!(airline.act("update_reservation_baggages", &reservation).unwrap_err().0, 409);
        assert!(airline.act("restore_reservation", &reservation).is_ok());
        assert!(airline.act("cancel_reservation", &reservation).is_ok());
    }
}
