//! Scenarios on real parts. They need `DATABASE_URL`, `AMQP_URL` and built binaries: `./tests/run` sees to all three.

mod everything_is_registered;
