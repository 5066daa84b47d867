import type { PowerShellScript } from '../powershell.js';

/*
 * Constant scripts: no value is ever put into their text. Parameters come as one line on stdin, base64 of JSON `{entries:[{mac,description}]}`, MAC as AA-BB-CC-DD-EE-FF.
 * Answer: one line of ASCII JSON, `{ok:true,changed,data:[...]}` or `{ok:false,id,category,message}` with exit code 1.
 * Whether powershell.exe hands a redirected stdin to `$input` or leaves it to the console reader depends on how it was started, so both are asked.
 */
const PROLOGUE = String.raw`
$ErrorActionPreference='Stop'
$ProgressPreference='SilentlyContinue'
$line=@($input)[0]
if(-not $line){$line=[Console]::In.ReadLine()}
function Write-Answer($answer,$code){
  $json=ConvertTo-Json -InputObject $answer -Depth 6 -Compress
  $json=[regex]::Replace($json,'[^\x20-\x7e]',{param($m) '\u{0:x4}' -f [int][char]$m.Value})
  [Console]::Out.WriteLine($json)
  exit $code
}
function Get-Key($mac){"$mac" -replace '[^0-9A-Fa-f]',''}
function Get-Filters{
  $all=@{}
  foreach($f in @(Get-DhcpServerv4Filter -ErrorAction Stop)){$all[(Get-Key $f.MacAddress)]=$f}
  $all
}
function Test-Same($f,$e){("$($f.List)" -eq 'Allow') -and ("$($f.Description)" -ceq $e.description)}
function New-Row($e,$f,$outcome,$failure){
  $row=@{mac=$e.mac;outcome=$outcome}
  if($f){$row.list="$($f.List)";$row.description="$($f.Description)"}
  if($failure){$row.id=$failure.FullyQualifiedErrorId;$row.category="$($failure.CategoryInfo.Category)";$row.message=$failure.Exception.Message}
  $row
}
try{
  $p=[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String("$line".Trim()))|ConvertFrom-Json
  $changed=0
  $failures=@{}
`;

const EPILOGUE = String.raw`
}catch{
  Write-Answer @{ok=$false;id=$_.FullyQualifiedErrorId;category="$($_.CategoryInfo.Category)";message=$_.Exception.Message} 1
}
Write-Answer @{ok=$true;changed=$changed;data=@($data)} 0
`;

function script(name: string, body: string): PowerShellScript {
  return { name, text: `# hatchery-script: ${name}${PROLOGUE}${body}${EPILOGUE}`.replaceAll('\r\n', '\n') };
}

/** Rows `{mac,list,description}` of the asked addresses that are in a list. */
export const FIND = script(
  'dhcp-filter-find v1',
  String.raw`
  $now=Get-Filters
  $data=foreach($e in $p.entries){$f=$now[(Get-Key $e.mac)]; if($f){New-Row $e $f 'present'}}
`,
);

/** Adds what is in no list, never forces, reads the lists again. Outcome per entry: added, present, foreign, failed. */
export const ALLOW = script(
  'dhcp-filter-allow v1',
  String.raw`
  $before=Get-Filters
  foreach($e in $p.entries){
    $k=Get-Key $e.mac
    if($before.ContainsKey($k)){continue}
    try{Add-DhcpServerv4Filter -List Allow -MacAddress $e.mac -Description $e.description -ErrorAction Stop}catch{$failures[$k]=$_}
  }
  $now=Get-Filters
  $data=foreach($e in $p.entries){
    $k=Get-Key $e.mac
    $f=$now[$k]
    if(-not $f){New-Row $e $null 'failed' $failures[$k]}
    elseif(-not (Test-Same $f $e)){New-Row $e $f 'foreign'}
    elseif($before.ContainsKey($k)){New-Row $e $f 'present'}
    else{$changed++; New-Row $e $f 'added'}
  }
`,
);

/** Removes what carries the given description in the allow list, reads the lists again. Outcome per entry: removed, absent, foreign, failed. */
export const REMOVE = script(
  'dhcp-filter-remove v1',
  String.raw`
  $before=Get-Filters
  foreach($e in $p.entries){
    $k=Get-Key $e.mac
    if(-not $before.ContainsKey($k) -or -not (Test-Same $before[$k] $e)){continue}
    try{Remove-DhcpServerv4Filter -MacAddress $e.mac -ErrorAction Stop}catch{$failures[$k]=$_}
  }
  $now=Get-Filters
  $data=foreach($e in $p.entries){
    $k=Get-Key $e.mac
    $f=$now[$k]
    if(-not $before.ContainsKey($k)){New-Row $e $null 'absent'}
    elseif(-not (Test-Same $before[$k] $e)){New-Row $e $before[$k] 'foreign'}
    elseif($f){New-Row $e $f 'failed' $failures[$k]}
    else{$changed++; New-Row $e $null 'removed'}
  }
`,
);

/** One row `{allowEnabled,denyEnabled,user,computer}`. */
export const CHECK = script(
  'dhcp-filter-check v1',
  String.raw`
  $state=Get-DhcpServerv4FilterList -ErrorAction Stop
  $null=Get-Filters
  $data=@{allowEnabled=[bool]$state.Allow;denyEnabled=[bool]$state.Deny;user=[Security.Principal.WindowsIdentity]::GetCurrent().Name;computer=$env:COMPUTERNAME}
`,
);
