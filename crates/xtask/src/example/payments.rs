//! The tools of a treasury: a table of accounts, and contracts that nobody can unsign.

use std::collections::{BTreeMap, BTreeSet};

use countersign_testkit::tools::Behaviour;
use serde_json::{Value, json};

/// The bank's books, in cents.
#[derive(Default)]
pub(crate) struct Bank {
    accounts: BTreeMap<String, i64>,
    transfers: BTreeMap<String, (String, i64)>,
    signed: BTreeSet<String>,
}

type Answer = Result<Value, (u16, String)>;

impl Behaviour for Bank {
    fn act(&mut self, tool: &str, arguments: &Value) -> Answer {
        let text = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
        match tool {
            "get_balance" => {
                let balance = self.accounts.get(&text("account")).copied().unwrap_or_default();
                Ok(json!({"account": text("account"), "balance": written(balance)}))
            }
            "transfer" => self.transfer(text("payee"), &text("amount")),
            "reverse_transfer" => self.reverse(&text("transfer_id")),
            "sign_contract" => match self.signed.insert(text("contract_id")) {
                true => Ok(json!({"contract_id": text("contract_id"), "status": "signed"})),
                false => Err((409, "the contract has been signed before".into())),
            },
            other => Err((404, format!("the bank has no tool {other:?}"))),
        }
    }
}

impl Bank {
    fn transfer(&mut self, payee: String, amount: &str) -> Answer {
        let cents = cents(amount).ok_or((422, format!("{amount:?} is no amount")))?;
        *self.accounts.entry(payee.clone()).or_default() += cents;
        let id = format!("transfer-{}", self.transfers.len() + 1);
        self.transfers.insert(id.clone(), (payee, cents));
        Ok(json!({"transfer_id": id, "status": "done", "amount": written(cents)}))
    }

    fn reverse(&mut self, id: &str) -> Answer {
        let (payee, cents) =
            self.transfers.remove(id).ok_or((404, "there is no such transfer, or no longer".to_owned()))?;
        *self.accounts.entry(payee).or_default() -= cents;
        Ok(json!({"transfer_id": id, "status": "reversed"}))
    }
}

/// `18000.50` as cents.
fn cents(amount: &str) -> Option<i64> {
    let (whole, part) = amount.split_once('.').unwrap_or((amount, "00"));
    let part = format!("{part:0<2}");
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(whole) && digits(&part) && part.len() == 2).then_some(())?;
    whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)
}

fn written(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_reversed_once_and_a_contract_signed_once() {
        let mut bank = Bank::default();
        let done = bank.act("transfer", &json!({"payee": "p", "amount": "18000.5"})).unwrap();
        assert_eq!(done["amount"], "18000.50");
        let id = json!({"transfer_id": done["transfer_id"]});
        assert!(bank.act("reverse_transfer", &id).is_ok());
        assert_eq!(bank.act("reverse_transfer", &id).unwrap_err().0, 404);
        assert_eq!(bank.act("get_balance", &json!({"account": "p"})).unwrap()["balance"], "0.00");
        assert!(bank.act("sign_contract", &json!({"contract_id": "c"})).is_ok());
        assert_eq!(bank.act("sign_contract", &json!({"contract_id": "c"})).unwrap_err().0, 409);
        assert_eq!(bank.act("transfer", &json!({"payee": "p", "amount": "1.999"})).unwrap_err().0, 422);
    }
}
