;; Logs large texts of bytes that are no text.
;; expect: out-of-fuel
(module
  (import "optwasm_v1" "log" (func $log (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 4)
  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 155) (i32.const 200000))
    (loop $l
      (call $log (i32.const 1) (i32.const 0) (i32.const 200000) (i32.const 0) (i32.const 200000))
      (br $l))))
