;; An error message that says it holds 2^63 causes.
;; expect: guest-error
(module
  (import "optwasm_v1" "fail" (func $fail (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\67message\61x\65chain\9b\7f\ff\ff\ff\ff\ff\ff\ff")
  (func (export "_start") (call $fail (i32.const 1) (i32.const 0) (i32.const 100))))
