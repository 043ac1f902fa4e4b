//! Quotas: how much of one agent is under way at a time, so that it cannot take the others' turn.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

/// A rate may be used up in advance for this long.
const BURST: TimeDelta = TimeDelta::seconds(10);

/// When an agent may come back is said between these.
const RETRY: [TimeDelta; 2] = [TimeDelta::seconds(1), TimeDelta::hours(1)];

/// What happens to a proposal of an agent that is over its quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverQuota {
    /// It is stored, and processed when its turn comes.
    Wait,
    /// It is denied.
    Deny,
}

/// How much of one agent may be under way. What is over it waits; what may not wait is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Proposals a second on average; ten seconds' worth may come at once.
    pub rate: u32,
    /// Actions that are authorised, held or executing.
    pub in_flight: u32,
    /// Actions that wait for reviewers.
    pub open_requests: u32,
    /// Proposals that wait for their turn.
    pub waiting: u32,
    /// What happens to a proposal that is over the others.
    pub exceeded: OverQuota,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { rate: 100, in_flight: 128, open_requests: 1_000, waiting: 10_000, exceeded: OverQuota::Wait }
    }
}

/// An agent's own quotas, as the directory gives them. What is `None` is as in the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentQuotas {
    /// As [`Quotas::rate`].
    pub rate: Option<u32>,
    /// As [`Quotas::in_flight`].
    pub in_flight: Option<u32>,
    /// As [`Quotas::open_requests`].
    pub open_requests: Option<u32>,
    /// As [`Quotas::waiting`].
    pub waiting: Option<u32>,
    /// As [`Quotas::exceeded`].
    pub exceeded: Option<OverQuota>,
}

/// What one agent has under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Actions that are authorised, held or executing, and proposals whose turn has just come.
    pub in_flight: u64,
    /// Actions that wait for reviewers.
    pub open_requests: u64,
    /// Proposals that wait for their turn.
    pub waiting: u64,
    /// Until when the rate is used up.
    pub used_until: Option<DateTime<Utc>>,
}

impl Quotas {
    /// These quotas, where the directory does not give the agent others.
    pub fn of(self, own: &AgentQuotas) -> Self {
        Self {
            rate: own.rate.unwrap_or(self.rate),
            in_flight: own.in_flight.unwrap_or(self.in_flight),
            open_requests: own.open_requests.unwrap_or(self.open_requests),
            waiting: own.waiting.unwrap_or(self.waiting),
            exceeded: own.exceeded.unwrap_or(self.exceeded),
        }
    }

    /// How many proposals may be processed now. What becomes of one is not known before, so it must fit every quota.
    pub fn room(&self, usage: &Usage, now: DateTime<Utc>) -> u64 {
        let left = |most: u32, used: u64| u64::from(most).saturating_sub(used);
        left(self.in_flight, usage.in_flight)
            .min(left(self.open_requests, usage.open_requests))
            .min(self.allowance(usage.used_until, now))
    }

    /// How many proposals the rate allows now.
    ///
    /// The generic cell rate algorithm (ITU-T I.371): each proposal moves the time until which the rate is used up by
    /// one interval, and that time may be [`BURST`] ahead.
    fn allowance(&self, used_until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> u64 {
        // Further ahead than the rate can have been used up: the clock was set back.
        let used_until = used_until.filter(|until| *until <= now + BURST * 2).unwrap_or(now);
        let left = (now + BURST - used_until.max(now)).num_milliseconds().max(0);
        u64::try_from(left).unwrap_or(0).saturating_mul(self.rate.into()) / 1_000
    }

    /// For how long so many proposals use up the rate, in seconds.
    pub fn seconds_for(&self, proposals: u64) -> f64 {
        proposals as f64 / f64::from(self.rate.max(1))
    }

    /// When an agent with this usage may come back: what waits has had its turn then, if only the rate holds it up.
    pub fn retry_at(&self, usage: &Usage, now: DateTime<Utc>) -> DateTime<Utc> {
        let wait = self.seconds_for(usage.waiting + 1).ceil() as i64;
        let until = usage.used_until.unwrap_or(now) - BURST - now;
        now + (TimeDelta::seconds(wait) + until.max(TimeDelta::zero())).clamp(RETRY[0], RETRY[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTAS: Quotas =
        Quotas { rate: 10, in_flight: 50, open_requests: 20, waiting: 5, exceeded: OverQuota::Wait };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn the_room_is_what_every_quota_leaves() {
        let room = |usage: Usage| QUOTAS.room(&usage, at(0));
        assert_eq!(room(Usage::default()), 20);
        assert_eq!(room(Usage { open_requests: 15, ..Usage::default() }), 5);
        assert_eq!(room(Usage { in_flight: 48, ..Usage::default() }), 2);
        assert_eq!(room(Usage { in_flight: 70, ..Usage::default() }), 0, "the directory may lower a quota");
    }

    #[test]
    fn ten_seconds_of_a_rate_may_come_at_once_and_come_back_with_time() {
        let quotas = Quotas { in_flight: 1_000, open_requests: 1_000, ..QUOTAS };
        let room = |used: i64, now: i64| {
            let usage = Usage { used_until: Some(at(used)), ..Usage::default() };
            quotas.room(&usage, at(now))
        };
        assert_eq!(room(0, 0), 100);
        assert_eq!(room(10, 0), 0, "ten seconds ahead");
        assert_eq!(room(10, 3), 30);
        assert_eq!(room(10, 100), 100, "a long pause does not save up more");
        assert_eq!(room(3_600, 0), 100, "a clock that was set back stops nobody");
    }

    #[test]
    fn an_agent_is_told_to_come_back_when_what_waits_has_had_its_turn() {
        let usage = |waiting, used: i64| Usage { waiting, used_until: Some(at(used)), ..Usage::default() };
        assert_eq!(QUOTAS.retry_at(&usage(99, 10), at(0)), at(10));
        assert_eq!(QUOTAS.retry_at(&usage(0, 0), at(0)), at(1));
        assert_eq!(QUOTAS.retry_at(&usage(1_000_000, 0), at(0)), at(3_600));
    }

    #[test]
    fn the_directory_overrides_single_quotas() {
        let own =
            AgentQuotas { in_flight: Some(7), exceeded: Some(OverQuota::Deny), ..AgentQuotas::default() };
        assert_eq!(QUOTAS.of(&own), Quotas { in_flight: 7, exceeded: OverQuota::Deny, ..QUOTAS });
    }
}
