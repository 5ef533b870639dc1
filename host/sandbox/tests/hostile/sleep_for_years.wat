;; Sleeps a thousand million seconds, twice, once until a given time.
;; expect: ok
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 1000000000000000000))
    (if (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)) (then unreachable))
    (i32.store (i32.const 40) (i32.const 1))
    (i64.store (i32.const 24) (i64.const -1))
    (if (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)) (then unreachable))
    (if (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)) (then unreachable))
    (if (i32.ne (i32.load (i32.const 200)) (i32.const 1)) (then unreachable))))
