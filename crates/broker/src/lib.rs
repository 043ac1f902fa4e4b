//! All AMQP of Countersign: topology as data, session supervisor, lane, publisher.
