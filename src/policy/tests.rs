//! What policies decide: tables of questions, and bad input.
