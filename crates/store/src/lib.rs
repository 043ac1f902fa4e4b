//! All SQL of Countersign: migrations, statements, row types.
