//! The cached description of an engine.

use super::*;

const INFO: &str =
    r#"{"ServerVersion": "20.10.24", "NCPU": 4, "MemTotal": 8, "Driver": "overlay2", "DockerRootDir": "/d"}"#;

fn engine() -> Fake {
    Fake::engine(|_, _| Answer::Json(200, INFO.into()))
}

/// Counts the requests for the engine's description.
fn asked(fake: &Fake) -> usize {
    fake.seen().iter().filter(|request| request.ends_with("/info")).count()
}

#[tokio::test]
async fn an_engine_is_asked_about_itself_once_in_each_of_its_runs_by_however_many_processes() {
    let fake = engine();
    let (process, memory) = (fake.path.with_extension("pid"), fake.path.with_extension("json"));
    std::fs::write(&process, "1").unwrap();
    for _ in 0..3 {
        let docker = fake.connect().await.unwrap().with_memory(memory.clone());
        assert_eq!(docker.info().await.unwrap().cpus, 4);
        assert_eq!(docker.info().await.unwrap().docker_root_dir, "/d");
        assert_eq!(asked(&fake), 1);
    }
    // Another run with the same process number: containers often give their first process the same number.
    let docker = fake.connect().await.unwrap().with_memory(memory.clone());
    docker.info().await.unwrap();
    std::fs::remove_file(&process).unwrap();
    std::fs::write(&process, "1").unwrap();
    docker.info().await.unwrap();
    assert_eq!(asked(&fake), 2, "one that lives through it notices");
    fake.connect().await.unwrap().with_memory(memory.clone()).info().await.unwrap();
    assert_eq!(asked(&fake), 2);
    // A damaged file is ignored.
    std::fs::write(&memory, "{\"run\":").unwrap();
    let docker = fake.connect().await.unwrap().with_memory(memory.clone());
    assert_eq!(docker.info().await.unwrap().cpus, 4);
    assert_eq!(asked(&fake), 3);
    assert_eq!(docker.ask_info().await.unwrap().cpus, 4);
    assert_eq!(asked(&fake), 4, "who wants to know asks");
    for file in [process, memory] {
        std::fs::remove_file(file).unwrap();
    }
}

#[tokio::test]
async fn an_engine_whose_runs_cannot_be_told_apart_is_remembered_by_one_process_only() {
    let fake = engine();
    let memory = fake.path.with_extension("json");
    for processes in 1..=2 {
        let docker = fake.connect().await.unwrap().with_memory(memory.clone());
        docker.info().await.unwrap();
        docker.info().await.unwrap();
        assert_eq!(asked(&fake), processes);
        assert!(!memory.exists());
    }
}

#[tokio::test]
async fn what_an_engine_does_not_say_is_not_remembered() {
    let fake = Fake::engine(|_, _| Answer::Json(500, r#"{"message": "busy"}"#.into()));
    let process = fake.path.with_extension("pid");
    std::fs::write(&process, "1").unwrap();
    let docker = fake.connect().await.unwrap();
    for _ in 0..2 {
        assert_eq!(docker.info().await.unwrap_err().code(), "engine-failed");
    }
    assert_eq!(asked(&fake), 2);
    std::fs::remove_file(process).unwrap();
}
