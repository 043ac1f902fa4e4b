//! Tables whose lines have long names: each name has a line of its own, above its figures.

/// Lines of figures under a name.
pub(crate) struct Block<const N: usize> {
    /// The name. Its indentation says what it belongs to.
    pub(crate) name: String,
    /// The figures, a row for each line.
    pub(crate) rows: Vec<[String; N]>,
}

impl<const N: usize> Block<N> {
    /// One line of figures under a name.
    pub(crate) fn new(name: impl Into<String>, row: [String; N]) -> Self {
        Self { name: name.into(), rows: vec![row] }
    }
}

/// The blocks as a table: figures stand right in columns that are as wide as their widest figure or word of the header,
/// which may have several lines.
pub(crate) fn blocks<const N: usize>(header: [&str; N], blocks: &[Block<N>]) -> String {
    let lines = header.map(|cell| cell.split('\n').collect::<Vec<&str>>());
    let height = lines.iter().map(Vec::len).max().unwrap_or_default();
    // What a header says in fewer lines than another stands at the bottom.
    let word = |column: &[&str], line: usize| {
        let above = height - column.len();
        line.checked_sub(above).and_then(|line| column.get(line).copied()).unwrap_or_default().to_owned()
    };
    let header: Vec<[String; N]> = (0..height)
        .map(|line| std::array::from_fn(|column| word(lines.get(column).map_or(&[], Vec::as_slice), line)))
        .collect();
    let rows = || header.iter().chain(blocks.iter().flat_map(|block| &block.rows));
    let width: [usize; N] =
        std::array::from_fn(|column| rows().map(|row| row[column].chars().count()).max().unwrap_or_default());
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(width).map(|(cell, width)| format!("  {cell:>width$}"));
        cells.collect::<String>().trim_end().to_owned()
    };
    let rule = "─".repeat(width.iter().map(|width| width + 2).sum());
    let mut table: Vec<String> = header.iter().map(line).collect();
    table.push(rule.clone());
    for block in blocks {
        table.push(block.name.clone());
        table.extend(block.rows.iter().map(line));
    }
    table.push(rule);
    table.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_below_their_names_and_headers_above_their_columns() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned);
        let all = Block::new("ALL", row(["1000", "3.00 %"]));
        let halves = Block { name: "  rule".into(), rows: vec![row(["7", "1.00 %"]), row(["8", "—"])] };
        assert_eq!(
            blocks(["executed", "error\nrate"], &[all, halves]),
            "             error\n  executed    rate\n──────────────────\n\
             ALL\n      1000  3.00 %\n  rule\n         7  1.00 %\n         8       —\n──────────────────"
        );
    }
}
