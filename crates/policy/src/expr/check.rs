//! What an expression must not say, found in its syntax tree.

use std::collections::BTreeSet;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, SelectExpr, operators as op};

use super::functions::{self, Known};
use super::known::{is_whole_object, known, path};
use super::objects::MAX_ITEMS;
use super::{Complaint, Scope};

const MAX_NODES: usize = 2_000;
/// Unoptimised, the interpreter takes about 40 kB of stack per level.
const MAX_DEPTH: usize = 20;
/// `all`, `exists`, `map` and the like inside one another.
const MAX_LOOPS: usize = 2;
/// Steps of the interpreter in the worst case, where every list is as long as it may be: about two seconds.
const MAX_COST: u64 = 2_000_000;
/// A pattern is compiled whenever it is used.
const PATTERN_COST: u64 = 500;
/// A text as long as a message may have: searching it took 280 µs when this was written, reading or comparing it 11.
const SEARCH_COST: u64 = 300;
const TEXT_COST: u64 = 10;
const MAX_PATTERN_CHARS: usize = 256;
const MAX_PATTERN_BYTES: usize = 1 << 18;

/// What the check learned.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) roots: Vec<&'static str>,
    pub(super) tools: Vec<String>,
}

/// Checks an expression.
pub(super) fn check(expression: &IdedExpr, scope: &'static Scope) -> Result<Checked, Vec<Complaint>> {
    let mut walk = Walk {
        scope,
        variables: Vec::new(),
        nodes: 0,
        loops: 0,
        cost: 0,
        roots: BTreeSet::new(),
        tools: Vec::new(),
        complaints: Vec::new(),
    };
    walk.value(expression, 0);
    walk.within_cost();
    if !walk.complaints.is_empty() {
        return Err(walk.complaints);
    }
    Ok(Checked { roots: walk.roots.into_iter().collect(), tools: walk.tools })
}

struct Walk<'e> {
    scope: &'static Scope,
    variables: Vec<&'e str>,
    nodes: usize,
    loops: usize,
    cost: u64,
    roots: BTreeSet<&'static str>,
    tools: Vec<String>,
    complaints: Vec<Complaint>,
}

impl<'e> Walk<'e> {
    fn complain(&mut self, message: impl Into<String>, help: impl Into<String>) {
        let complaint = Complaint::new(message, help);
        if !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }

    /// Counts what is done once per round of the loops around it.
    fn costs(&mut self, steps: u64) {
        let rounds = (0..self.loops).fold(1_u64, |rounds, _| rounds.saturating_mul(MAX_ITEMS as u64));
        self.cost = self.cost.saturating_add(steps.saturating_mul(rounds));
    }

    fn within_cost(&mut self) {
        if self.cost > MAX_COST {
            self.complain(
                format!("the expression can cost {} steps", self.cost),
                format!(
                    "keep it within {MAX_COST}: say less, and search no texts or lists, in loops inside loops"
                ),
            );
        }
    }

    /// An expression used as a value.
    fn value(&mut self, node: &'e IdedExpr, depth: usize) {
        if !self.scope.whole_objects && is_whole_object(&node.expr) {
            self.complain(
                format!("{} is used as a whole", path(&node.expr)),
                "use its fields: an object can be read field by field, but not compared or listed",
            );
        }
        self.part(node, depth);
    }

    /// An expression of which only a part is used: a field, an item, the size.
    fn part(&mut self, node: &'e IdedExpr, depth: usize) {
        self.nodes += 1;
        self.costs(1);
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            return self.complain(
                format!("the expression is larger than {MAX_NODES} parts or {MAX_DEPTH} levels"),
                "split the rule in two",
            );
        }
        match &node.expr {
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.select(select, depth + 1),
            Expr::Call(call) => self.call(call, depth + 1),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth + 1),
            Expr::List(list) => list.elements.iter().for_each(|item| self.value(item, depth + 1)),
            Expr::Literal(_) => {}
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => self.complain(
                "objects cannot be written in an expression",
                "compare fields one by one: action.arguments.a == 1 && action.arguments.b == 2",
            ),
        }
    }

    fn ident(&mut self, name: &'e str) {
        // Macros name their accumulator with an @, which no user can write.
        if name.starts_with('@') || self.variables.contains(&name) {
            return;
        }
        match self.scope.roots.iter().find(|root| root.name == name) {
            Some(root) => {
                self.roots.insert(root.name);
            }
            None => {
                let known: Vec<_> = self.scope.roots.iter().map(|root| root.name).collect();
                self.complain(
                    format!("{name:?} is not known"),
                    format!("use {}, or quote it if it is a text", known.join(", ")),
                );
            }
        }
    }

    fn select(&mut self, select: &'e SelectExpr, depth: usize) {
        if let Expr::Ident(name) = &select.operand.expr
            && !self.variables.contains(&name.as_str())
            && let Some(root) = self.scope.roots.iter().find(|root| root.name == name)
            && !root.fields.is_empty()
            && !root.fields.contains(&select.field.as_str())
        {
            self.complain(
                format!("{name} has no field {:?}", select.field),
                format!("use {name}.{}", root.fields.join(&format!(", {name}."))),
            );
        }
        self.part(&select.operand, depth);
    }

    fn comprehension(&mut self, comprehension: &'e ComprehensionExpr, depth: usize) {
        self.part(&comprehension.iter_range, depth);
        let named = [Some(&comprehension.iter_var), comprehension.iter_var2.as_ref()];
        let before = self.variables.len();
        for name in named.into_iter().flatten() {
            if self.scope.roots.iter().any(|root| root.name == name) {
                self.complain(format!("the variable {name} hides {name}"), "choose another name");
            }
            self.variables.push(name);
        }
        self.loops += 1;
        if self.loops > MAX_LOOPS {
            self.complain(
                format!("more than {MAX_LOOPS} of all, exists, map or filter inside one another"),
                "let the agent send what the condition needs as a field of its own",
            );
        } else {
            for part in [&comprehension.accu_init, &comprehension.loop_cond, &comprehension.loop_step] {
                self.value(part, depth);
            }
            self.value(&comprehension.result, depth);
        }
        self.loops -= 1;
        self.variables.truncate(before);
    }

    fn call(&mut self, call: &'e CallExpr, depth: usize) {
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [left, right]) => {
                self.ordering(left, right);
            }
            (op::EQUALS | op::NOT_EQUALS, [left, right]) => {
                self.decimal_with_decimal(left, right);
                self.tool_names(left, right);
                self.tool_names(right, left);
            }
            (op::IN, [item, list]) => {
                if known(item) == Known::Decimal {
                    self.complain("decimal() is looked up in a list", "compare it with == to each decimal()");
                }
                self.tool_names(item, list);
                if !matches!(list.expr, Expr::List(_)) {
                    self.costs(MAX_ITEMS as u64);
                }
                self.value(item, depth);
                return self.part(list, depth);
            }
            (op::INDEX, [object, index]) => {
                self.value(index, depth);
                return self.part(object, depth);
            }
            (op::ADD, [left, right]) => self.addition(left, right),
            (op::DIVIDE | op::MODULO, [left, right]) => {
                if known(left) == Known::Decimal || known(right) == Known::Decimal {
                    self.complain("decimal() is divided", "multiply the other side instead");
                }
            }
            (
                op::CONDITIONAL
                | op::LOGICAL_AND
                | op::LOGICAL_OR
                | op::LOGICAL_NOT
                | op::NOT_STRICTLY_FALSE
                | op::SUBSTRACT
                | op::MULTIPLY
                | op::NEGATE,
                _,
            ) => {}
            _ => return self.function(call, depth),
        }
        call.args.iter().for_each(|argument| self.value(argument, depth));
    }

    fn function(&mut self, call: &'e CallExpr, depth: usize) {
        let name = call.func_name.as_str();
        if functions::gives(name, call.target.is_some(), call.args.len()).is_none() {
            self.complain(
                format!("there is no function {name} that is called like this"),
                format!("use one of {}", functions::names()),
            );
        }
        match name {
            "matches" => self.pattern(call.args.last()),
            "contains" => self.costs(SEARCH_COST),
            "startsWith" | "endsWith" | "size" => self.costs(TEXT_COST),
            "decimal_sum" => self.costs(MAX_ITEMS as u64),
            _ => {}
        }
        let parts_only = name == "size";
        for argument in call.target.iter().map(AsRef::as_ref).chain(&call.args) {
            if parts_only { self.part(argument, depth) } else { self.value(argument, depth) }
        }
    }

    /// Patterns come from the policy alone, and compile to a bounded size.
    fn pattern(&mut self, pattern: Option<&IdedExpr>) {
        self.costs(PATTERN_COST);
        let Some(Expr::Literal(LiteralValue::String(pattern))) = pattern.map(|pattern| &pattern.expr) else {
            return self.complain("the pattern of matches() is computed", "write it as a quoted text");
        };
        let pattern = pattern.inner();
        if pattern.chars().count() > MAX_PATTERN_CHARS {
            return self.complain(
                "the pattern of matches() is too long",
                format!("keep it within {MAX_PATTERN_CHARS} characters"),
            );
        }
        if let Err(error) = regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build() {
            let reason = error.to_string().lines().last().unwrap_or_default().to_owned();
            self.complain(
                format!("the pattern {pattern:?} of matches() is not accepted: {reason}"),
                "write a smaller or correct regular expression (RE2 syntax)",
            );
        }
    }

    fn ordering(&mut self, left: &IdedExpr, right: &IdedExpr) {
        let (left_known, right_known) = (known(left), known(right));
        let unordered = |known| matches!(known, Known::Text);
        if unordered(left_known)
            || unordered(right_known)
            || (left_known == Known::Nothing && right_known == Known::Nothing)
        {
            return self.complain(
                "< and > may compare plain strings here, where \"9\" is more than \"10\"",
                "write decimal(..) on both sides, or int(..), timestamp(..), size(..) as the values are",
            );
        }
        self.decimal_with_decimal(left, right);
    }

    fn decimal_with_decimal(&mut self, left: &IdedExpr, right: &IdedExpr) {
        if (known(left) == Known::Decimal) != (known(right) == Known::Decimal) {
            self.complain(
                "decimal() is compared with something else",
                "write decimal(..) on both sides: decimal(action.arguments.amount) > decimal(\"200\")",
            );
        }
    }

    /// Joining texts in a loop could build far more than the message had.
    fn addition(&mut self, left: &IdedExpr, right: &IdedExpr) {
        let of_macro = matches!(&left.expr, Expr::Ident(name) if name.starts_with('@'));
        let counts = |side| matches!(known(side), Known::Decimal | Known::NotText);
        if self.loops > 0 && !of_macro && !(counts(left) || counts(right)) {
            self.complain(
                "+ may join texts or lists inside all, exists, map or filter",
                "write decimal(..) or int(..) around the numbers, or join outside",
            );
        }
    }

    /// Remembers `tool.name == "x"` and `action.tool in ["x"]`, so that a misspelt tool is found.
    fn tool_names(&mut self, side: &IdedExpr, other: &IdedExpr) {
        if !matches!(path(&side.expr).as_str(), "tool.name" | "action.tool") {
            return;
        }
        let items = match &other.expr {
            Expr::List(list) => list.elements.as_slice(),
            _ => std::slice::from_ref(other),
        };
        for item in items {
            if let Expr::Literal(LiteralValue::String(name)) = &item.expr {
                self.tools.push(name.inner().to_owned());
            }
        }
    }
}
