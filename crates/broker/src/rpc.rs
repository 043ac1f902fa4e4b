//! Request/reply with a tool service over a queue.
