//! Transactions, and statements that are sent together.

use std::{future::ready, ops::Deref, pin::Pin};

use deadpool_postgres::{ClientWrapper, Object};
use futures_util::FutureExt as _;
use tokio_postgres::{Error, Row, Statement, types::ToSql};

use crate::{StoreError, pool::Store};

/// A value of a statement.
pub type Parameter<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// The values of a statement, in the order of its `$1`, `$2` and so on.
macro_rules! parameters {
    ($($value:expr),+ $(,)?) => { vec![$(Box::new($value) as $crate::transaction::Parameter<'_>),+] };
}
pub(crate) use parameters;

/// Statements for one trip to the database: sent in this order, without waiting for answers in between.
#[derive(Default)]
pub struct Pipeline<'a> {
    statements: Vec<(Statement, Vec<Parameter<'a>>)>,
}

impl<'a> Pipeline<'a> {
    /// Adds a statement. It is prepared here, so that only sending is left.
    pub async fn add(
        &mut self,
        client: &ClientWrapper,
        sql: &str,
        parameters: Vec<Parameter<'a>>,
    ) -> Result<(), StoreError> {
        self.statements.push((client.prepare_cached(sql).await?, parameters));
        Ok(())
    }
}

/// A transaction on a connection of its own. Rolled back if it is dropped.
pub struct Transaction {
    client: Object,
    open: bool,
}

impl Transaction {
    async fn begin(client: Object, begin: &str) -> Result<Self, StoreError> {
        let tx = Self { client, open: true };
        tx.client.batch_execute(begin).await?;
        Ok(tx)
    }

    /// Begins a transaction and executes its first reads and locks, in one trip. Returns the rows of each statement.
    ///
    /// `reads` must not write: if BEGIN fails, the server executes them outside any transaction.
    pub(crate) async fn begin_with(
        client: Object,
        reads: &Pipeline<'_>,
    ) -> Result<(Self, Vec<Vec<Row>>), StoreError> {
        let tx = Self { client, open: true };
        let rows = send(&tx.client, Some("BEGIN"), reads, None).await?;
        Ok((tx, rows))
    }

    /// Executes statements in one trip. Returns the rows of each.
    pub async fn run(&self, statements: &Pipeline<'_>) -> Result<Vec<Vec<Row>>, StoreError> {
        Ok(send(&self.client, None, statements, None).await?)
    }

    /// Commits.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.commit_with(&Pipeline::default()).await.map(drop)
    }

    /// Executes the last statements and commits, in one trip. If one of them fails, nothing is committed. Returns the
    /// rows of each.
    pub async fn commit_with(mut self, statements: &Pipeline<'_>) -> Result<Vec<Vec<Row>>, StoreError> {
        let rows = send(&self.client, None, statements, Some("COMMIT")).await?;
        self.open = false;
        Ok(rows)
    }
}

impl Deref for Transaction {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.open {
            // One poll sends it, ahead of whatever the connection is used for next.
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}

/// Sends all statements, then waits for the answers.
///
/// Stops at a statement that cannot be sent: those after it, above all a commit, must not reach the server without it.
async fn send(
    client: &ClientWrapper,
    begin: Option<&str>,
    pipeline: &Pipeline<'_>,
    end: Option<&str>,
) -> Result<Vec<Vec<Row>>, Error> {
    let plain = |sql| sent(client.batch_execute(sql));
    let begin = begin.map(plain).transpose()?;
    let mut answers = Vec::with_capacity(pipeline.statements.len());
    for (statement, parameters) in &pipeline.statements {
        answers.push(sent(query(client, statement, parameters))?);
    }
    let end = end.map(plain).transpose()?;
    if let Some(begin) = begin {
        begin.await?;
    }
    let mut rows = Vec::with_capacity(answers.len());
    for answer in answers {
        rows.push(answer.await?);
    }
    if let Some(end) = end {
        end.await?;
    }
    Ok(rows)
}

async fn query(
    client: &ClientWrapper,
    statement: &Statement,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Row>, Error> {
    let parameters: Vec<&(dyn ToSql + Sync)> =
        parameters.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync)).collect();
    client.query(statement, &parameters).await
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Sends a statement by polling it once. Returns the future of its answer.
fn sent<'a, T: Send + 'a>(
    statement: impl Future<Output = Result<T, Error>> + Send + 'a,
) -> Result<Answer<'a, T>, Error> {
    let mut answer: Answer<'a, T> = Box::pin(statement);
    match (&mut answer).now_or_never() {
        Some(answer) => Ok(Box::pin(ready(Ok(answer?)))),
        None => Ok(answer),
    }
}

impl Store {
    /// Begins a transaction.
    pub async fn transaction(&self) -> Result<Transaction, StoreError> {
        Transaction::begin(self.client().await?, "BEGIN").await
    }

    /// Begins a transaction that sees the database as it is now, and changes nothing.
    pub async fn snapshot(&self) -> Result<Transaction, StoreError> {
        Transaction::begin(self.client().await?, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }
}
