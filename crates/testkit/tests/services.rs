//! The private services start, survive a crash, and leave nothing behind.

#![expect(clippy::unwrap_used, reason = "in a test, failing is how to report")]

use std::{collections::BTreeSet, fs, time::Duration};

use countersign_testkit::{isolation::TestEnv, services::Services, wait::eventually};

/// Local ports in state LISTEN (0A), from the kernel's own tables.
fn listening() -> BTreeSet<String> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(3) == Some(&"0A")).then(|| fields[1].to_owned())
        })
        .collect()
}

/// Whether a process mentions the folder in its command line.
fn processes_in(folder: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains(folder))
        .collect()
}

#[tokio::test]
async fn private_services_survive_a_crash_and_leave_no_process_and_no_port_behind() {
    let mut services = Services::private().await.unwrap();
    let scratch = services.scratch().display().to_string();
    let ports: Vec<String> =
        [services.rabbitmq.as_ref().unwrap().port(), services.postgres.as_ref().unwrap().port()]
            .iter()
            .map(|port| format!("0100007F:{port:04X}"))
            .collect();
    let open = listening();
    assert!(ports.iter().all(|port| open.contains(port)), "{ports:?} not all in {open:?}");

    services.rabbitmq.as_mut().unwrap().restart().await.unwrap();
    services.postgres.as_mut().unwrap().restart().await.unwrap();
    let env = TestEnv::of(&services).await.unwrap();
    env.close().await.unwrap();

    services.stop().await.unwrap();
    eventually("no process is left", Duration::from_secs(10), async || {
        processes_in(&scratch).is_empty().then_some(())
    })
    .await
    .unwrap();
    let open = listening();
    assert!(!ports.iter().any(|port| open.contains(port)), "{ports:?} still in {open:?}");
    assert!(!fs::exists(&scratch).unwrap());
}
