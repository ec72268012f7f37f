//! Rows of `calls`, column by column, as batches write them.

use std::borrow::Cow;
use std::collections::HashSet;

use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::step::{Call, Step};

/// Calls of a batch: what an API answered is never dropped, whoever has the receipt by now.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    pub ids: Vec<Uuid>,
    pub receipts: Vec<Uuid>,
    pub stages: Vec<&'a str>,
    pub requests: Vec<&'a str>,
    pub attempts: Vec<i32>,
    pub call_ids: Vec<&'a str>,
    pub started_at: Vec<OffsetDateTime>,
    pub durations_ms: Vec<i32>,
    pub outcomes: Vec<&'a str>,
    pub statuses: Vec<Option<i16>>,
    pub errors: Vec<Option<Cow<'a, str>>>,
    pub retry_after_s: Vec<Option<i32>>,
    pub registers: Vec<bool>,
    pub registered: Vec<bool>,
    pub values: Vec<Option<&'a str>>,
    pub results: Vec<Option<&'a str>>,
}

impl<'a> Rows<'a> {
    /// The calls of steps.
    pub fn of(steps: impl Iterator<Item = &'a Step>) -> Self {
        let mut rows = Self::default();
        for step in steps {
            rows.push(step.hold.id, &step.calls);
        }
        rows
    }

    fn push(&mut self, receipt: Uuid, calls: &'a [Call]) {
        let rows = self;
        for call in calls {
            rows.ids.push(call.id);
            rows.receipts.push(receipt);
            rows.stages.push(&call.stage);
            rows.requests.push(&call.request);
            rows.attempts.push(call.attempt);
            rows.call_ids.push(&call.call_id);
            rows.started_at.push(call.started_at);
            rows.durations_ms
                .push(i32::try_from(call.duration.as_millis()).unwrap_or(i32::MAX));
            rows.outcomes.push(call.outcome);
            rows.statuses.push(call.status);
            rows.errors.push(call.error.as_deref().map(storable));
            rows.retry_after_s.push(call.retry_after_s);
            rows.registers.push(call.registers);
            rows.registered.push(call.registered);
            rows.values.push(call.value.as_deref());
            rows.results.push(call.result.as_deref());
        }
    }

    /// The same without the results of what was not moved.
    pub fn kept(mut self, moved: &HashSet<Uuid>) -> Self {
        for (receipt, result) in self.receipts.iter().zip(&mut self.results) {
            if !moved.contains(receipt) {
                *result = None;
            }
        }
        self
    }

    /// Appends those that an earlier try of unknown fate has not.
    pub async fn append_missing(&self, connection: &mut sqlx::PgConnection) -> Result<(), sqlx::Error> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            r#"
            insert into calls (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, error, retry_after_s,
                               registers, registered, value, result)
            select id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, error, retry_after_s,
                   registers, registered, value::json, result::json
            from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::int[], $6::text[], $7::timestamptz[], $8::int[], $9::text[],
                        $10::smallint[], $11::text[], $12::int[], $13::bool[], $14::bool[], $15::text[], $16::text[])
                as made (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, error, retry_after_s,
                         registers, registered, value, result)
            where not exists (select from calls known where known.receipt = made.receipt and known.id = made.id)
            "#,
            &self.ids,
            &self.receipts,
            &self.stages as &[&str],
            &self.requests as &[&str],
            &self.attempts,
            &self.call_ids as &[&str],
            &self.started_at,
            &self.durations_ms,
            &self.outcomes as &[&str],
            &self.statuses as &[Option<i16>],
            &self.errors as &[Option<Cow<'_, str>>],
            &self.retry_after_s as &[Option<i32>],
            &self.registers,
            &self.registered,
            &self.values as &[Option<&str>],
            &self.results as &[Option<&str>],
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// What stands for the call of a stage that had nothing to call.
pub(super) fn none(step: &Step) -> Call {
    Call {
        id: Uuid::now_v7(),
        stage: step.stage.clone(),
        request: String::new(),
        attempt: step.counters.attempt.max(1),
        call_id: String::new(),
        started_at: OffsetDateTime::now_utc(),
        duration: std::time::Duration::ZERO,
        outcome: "success",
        status: None,
        error: None,
        retry_after_s: None,
        registers: false,
        registered: false,
        value: None,
        result: None,
    }
}

/// PostgreSQL's text holds no U+0000; an API's answer may.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}
