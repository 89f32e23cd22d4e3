//! Laws of the socket itself; the language's are in `protocol`, whole conversations in `tests/cli`.

use super::*;

#[test]
fn a_groups_number_is_found() {
    let groups = "root:x:0:\nheadwaters:x:5:\nheadwater:x:998:pi,ops\nbroken\n";
    assert_eq!(group_number(groups, "headwater"), Some(998));
    assert_eq!(group_number(groups, "nobody"), None);
    assert_eq!(group_number("headwater", "headwater"), None);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_a_live_one_and_a_plain_file_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let first = bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(matches!(bind(&path), Err(BindError::Owned(_))));
    drop(first);
    assert!(path.exists(), "left over, as after a crash");
    bind(&path).unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "keep me").unwrap();
    assert!(matches!(bind(&plain), Err(BindError::NoSocket(_))));
    assert_eq!(std::fs::read_to_string(&plain).unwrap(), "keep me");
}

#[tokio::test]
async fn trouble_with_the_path_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(120));
    assert!(bind(&long).unwrap_err().to_string().contains("at most 107 bytes"));
    let missing = dir.path().join("no/where");
    assert!(bind(&missing).unwrap_err().to_string().contains("make that directory"));
}

#[tokio::test]
async fn a_door_stays_the_same_until_its_file_is_another_and_takes_only_its_own_along() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let door = Door::new(path.clone());
    let (first, again) = (door.open().await.unwrap(), door.open().await.unwrap());
    assert!(Rc::ptr_eq(&first, &again));
    // Between two lives of the node: in the queue.
    let waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
    first.listener.accept().await.unwrap();
    drop((first, again, waiting));
    std::fs::remove_file(&path).unwrap();
    let other = door.open().await.unwrap();
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let foreign = bind(&path).unwrap();
    drop(other);
    door.close();
    assert!(path.exists(), "another's");
    drop(foreign);
    let door = Door::new(path.clone());
    door.open().await.unwrap();
    drop(door);
    assert!(!path.exists());
}
