//! Text that fits a terminal.

/// The columns of the terminals that reports are made for.
pub(crate) const WIDTH: usize = 80;

/// The text with no line longer than [`WIDTH`]: longer ones go on in the next line, after the same indentation. A word
/// that is longer by itself, such as the name of a stratum, stays whole.
pub(crate) fn fit(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(line).collect();
    lines.join("\n")
}

fn line(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.into();
    }
    let indentation: String = line.chars().take_while(|c| *c == ' ').collect();
    let mut fitted = indentation.clone();
    let mut columns = indentation.len();
    let mut first = true;
    for word in line.split_whitespace() {
        let length = word.chars().count();
        if first {
            first = false;
        } else if columns + 1 + length > WIDTH {
            fitted = fitted + "\n" + &indentation;
            columns = indentation.len();
        } else {
            fitted.push(' ');
            columns += 1;
        }
        fitted += word;
        columns += length;
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_go_on_after_the_same_indentation_and_short_ones_stay_as_they_are() {
        let text = format!("a  b\n  {}", "word ".repeat(30));
        let fitted = fit(&text);
        let lines: Vec<&str> = fitted.lines().collect();
        assert_eq!((lines[0], lines.len()), ("a  b", 3));
        assert!(lines[1..].iter().all(|line| line.starts_with("  word") && line.len() <= WIDTH), "{fitted}");
        assert_eq!(fitted.matches("word").count(), 30);
        let name = "x".repeat(100);
        assert_eq!(fit(&format!("see {name}")), format!("see\n{name}"));
    }
}
