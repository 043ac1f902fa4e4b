//! What agents have withdrawn.

use countersign_core::ids::ActionRef;
use deadpool_postgres::Transaction;

use crate::StoreError;

fn columns<'a>(references: &[&'a ActionRef]) -> (Vec<&'a str>, Vec<&'a str>) {
    references.iter().map(|reference| (reference.source.as_str(), reference.id.as_str())).unzip()
}

/// Remembers that these are withdrawn.
pub async fn insert(tx: &Transaction<'_>, references: &[&ActionRef]) -> Result<(), StoreError> {
    let (sources, ids) = columns(references);
    let sql = "INSERT INTO cancellations (source, event_id) SELECT * FROM UNNEST($1::text[], $2::text[])
               ORDER BY 1, 2 ON CONFLICT DO NOTHING";
    tx.execute(&tx.prepare_cached(sql).await?, &[&sources, &ids]).await?;
    Ok(())
}

/// Which of these have been withdrawn.
pub async fn of(tx: &Transaction<'_>, references: &[&ActionRef]) -> Result<Vec<ActionRef>, StoreError> {
    let (sources, ids) = columns(references);
    let sql = "SELECT source, event_id FROM cancellations
               JOIN UNNEST($1::text[], $2::text[]) AS u (source, event_id) USING (source, event_id)";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&sources, &ids]).await?;
    Ok(rows.iter().map(|row| ActionRef { source: row.get(0), id: row.get(1) }).collect())
}
