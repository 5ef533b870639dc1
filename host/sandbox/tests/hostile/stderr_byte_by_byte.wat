;; Logs single bytes without end.
;; expect: out-of-fuel
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\10\00\00\00\01\00\00\00\ff\ff\ff\ff\ff\ff\ff\ff\ff")
  (func (export "_start") (loop $l
      (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l))))
